/*
 * shobj.h: the whole public API of libshobj.
 *
 * A *store* is a heap file (normally in /dev/shm) that any number of processes map at once. In it live
 * *objects* (dict, list) with mutable contents and identity, and *values* (int, float, str, bytes, tuple ...),
 * which are immutable and belong to the place that holds them. Every function here that reads or changes an
 * object is one atomic, linearizable operation by itself; between shobj_txn_begin() and shobj_txn_commit() all of
 * them together are one strictly serializable transaction. A process may die at any instruction: what it had
 * committed is whole, what it had not is invisible, and nobody waits for it.
 *
 * Threads: every function may be called from any thread. A thread is attached to a store (gets a session slot in
 * the heap) at its first call and detached when it ends, by shobj_detach() or by shobj_close(). A transaction
 * belongs to the thread that began it.
 *
 * Fork: a child may go on using the handles it inherited; it attaches anew at its first call. A transaction that was
 * open at the fork stays the parent's.
 *
 * Errors: functions that can fail return 0 or a negative SHOBJ_E... number. Outputs (`ret_...`) are written on
 * success only. shobj_error_message() tells the calling thread what went wrong, where, and what to do.
 *
 * Lifetime of results: bytes and items that a returned shobj_value points to live in memory of the calling thread's
 * session until its next call on the same store that returns values. Copy what is to be kept.
 */
#ifndef SHOBJ_H
#define SHOBJ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHOBJ_VERSION_MAJOR 0
#define SHOBJ_VERSION_MINOR 1
#define SHOBJ_VERSION_PATCH 0
#define SHOBJ_VERSION_STRING "0.1.0"

#if defined(__GNUC__)
#define SHOBJ_API __attribute__((visibility("default")))
#else
#define SHOBJ_API
#endif

/* ---------------------------------------------------------------------------------------------- errors */

/* X(name, number, text). The numbers are part of the ABI. */
#define SHOBJ_ERRORS(X)                                                                            \
    X(ENOTFOUND, 1, "no such key, index or path")                                                  \
    X(EINVAL, 2, "invalid argument")                                                               \
    X(ETYPE, 3, "the object or key is of another type")                                            \
    X(ENOENT, 4, "no such store")                                                                  \
    X(EEXIST, 5, "the store exists already")                                                       \
    X(EACCES, 6, "permission denied")                                                              \
    X(EREADONLY, 7, "the store is open for reading only")                                          \
    X(EFULL, 8, "the store is full")                                                               \
    X(ENOMEM, 9, "this process is out of memory")                                                  \
    X(EVERSION, 10, "the heap file has another layout version")                                    \
    X(EFORMAT, 11, "not a shobj heap file")                                                        \
    X(ECORRUPT, 12, "the heap is damaged")                                                         \
    X(ECONFLICT, 13, "the transaction lost against another one")                                   \
    X(ETIMEOUT, 14, "timed out")                                                                   \
    X(ESTALE, 15, "the object is gone")                                                            \
    X(EBUSY, 16, "the store is in use")                                                            \
    X(ETXN, 17, "not possible in this state of the transaction")                                   \
    X(ELIMIT, 18, "no free session slot")                                                          \
    X(EIO, 19, "a system call failed")                                                             \
    X(EABORTED, 20, "the body asked for an abort")                                                 \
    X(ERETRY, 21, "the body waits for a change of what it has read")                               \
    X(EINTR, 22, "interrupted")

enum {
#define SHOBJ_ERROR_ENUM(name, number, text) SHOBJ_##name = -(number),
    SHOBJ_ERRORS(SHOBJ_ERROR_ENUM)
#undef SHOBJ_ERROR_ENUM
};

/* "ENOTFOUND" for SHOBJ_ENOTFOUND, "OK" for 0, "E?" for a number that is none of ours. Never NULL. */
SHOBJ_API const char *shobj_error_name(int error);

/* The general text of an error number. Never NULL. */
SHOBJ_API const char *shobj_error_text(int error);

/* What the calling thread's last failing call was doing, to what, and what to do next: one line without newline.
 * Meaningful only right after a call returned an error. Never NULL. */
SHOBJ_API const char *shobj_error_message(void);

/* The version of the library in use, "0.1.0". */
SHOBJ_API const char *shobj_version(void);

/* ---------------------------------------------------------------------------------------------- values */

/* The id of an object: its place in the heap and its birth stamp, never 0. The id of an object that has been
 * freed is recognised (SHOBJ_ESTALE). */
typedef uint64_t shobj_oid;

enum shobj_type {
    SHOBJ_ABSENT = 0, /* no value */
    SHOBJ_NONE,
    SHOBJ_BOOL,    /* .i is 0 or 1 */
    SHOBJ_INT,     /* .i, all of int64_t */
    SHOBJ_BIGINT,  /* .data/.count: magnitude, little-endian bytes; .negative: its sign; outside int64_t */
    SHOBJ_FLOAT,   /* .f, every bit pattern kept */
    SHOBJ_COMPLEX, /* .c[0] real, .c[1] imaginary */
    SHOBJ_STR,     /* .data/.count: UTF-8 bytes; lone surrogates as three bytes each */
    SHOBJ_BYTES,   /* .data/.count */
    SHOBJ_TUPLE,   /* .items/.count */
    SHOBJ_FROZENSET, /* .items/.count, no two equal */
    SHOBJ_OBJECT   /* .oid; .kind tells what it is */
};

enum shobj_kind {
    SHOBJ_KIND_NONE = 0,
    SHOBJ_KIND_DICT = 1,
    SHOBJ_KIND_LIST = 2
};

/* One value. 24 bytes on the 64-bit machines that are supported. */
typedef struct shobj_value {
    uint8_t type;      /* enum shobj_type */
    uint8_t kind;      /* of an object: enum shobj_kind. Set on output; ignored on input */
    uint8_t negative;  /* of a BIGINT: 1 below zero */
    uint8_t ascii;     /* of a STR, on output: 1 if every byte is below 128 */
    uint32_t reserved; /* 0 */
    union {
        int64_t i;
        double f;
        double c[2];
        shobj_oid oid;
        struct {
            union {
                const void *data;
                const struct shobj_value *items;
            };
            size_t count;
        };
    };
} shobj_value;

/* A key made ready for one store by shobj_key_init(): hash and stored form, so that using it again costs
 * neither. It points to what the value pointed to. Fields are the library's own. */
typedef struct shobj_key {
    shobj_value value;
    uint64_t hash;
    uint64_t cell;
} shobj_key;

typedef struct shobj_item {
    shobj_value key;
    shobj_value value;
} shobj_item;

typedef struct shobj_store shobj_store;

/* ETYPE if the value can't be a key (an object, or a tuple with one inside). Does no shared access. */
SHOBJ_API int shobj_key_init(shobj_store *store, const shobj_value *value, shobj_key *ret_key);

/* ---------------------------------------------------------------------------------------------- stores */

enum shobj_open_mode {
    SHOBJ_OPEN_READ,   /* existing store; operations that change fail with EREADONLY */
    SHOBJ_OPEN_WRITE,  /* existing store */
    SHOBJ_OPEN_CREATE, /* existing store, or a new one */
    SHOBJ_OPEN_NEW,    /* a new empty one; an existing one of that name is unlinked first */
    SHOBJ_OPEN_EXCL    /* a new one; EEXIST if there is one */
};

typedef struct shobj_options {
    enum shobj_open_mode mode;
    uint64_t size;     /* bytes to reserve at creation; 0: the default (1 MiB) */
    uint64_t max_size; /* bytes the file may grow to, fixed at creation; 0: the default (16 GiB) */
    unsigned file_mode; /* permission bits of a new file, less the umask; 0: 0600 */
    bool own_mapping;  /* map anew even if this process has the store open (for tests and tools) */
    /* Called around every wait (spinning excepted) of a thread inside an operation of this handle: a language
     * runtime gives up its lock here. wait_leave gets what wait_enter returned. Both or neither. */
    void *(*wait_enter)(void);
    void (*wait_leave)(void *);
    /* Asked before each wait, and after it (and after wait_leave): has a signal come that is to end the operation with
     * EINTR? May be NULL. */
    bool (*wait_interrupted)(void);
} shobj_options;

/* Opens a store. A `name` without '/' stands in $SHOBJ_DIR, else /dev/shm. options NULL: SHOBJ_OPEN_WRITE and
 * defaults. Opening a file that this process has open already gives the same mapping, counted; options then must
 * not contradict it. Errors: ENOENT, EEXIST, EACCES, EFORMAT, EVERSION, ECORRUPT, EFULL, EINVAL, ELIMIT, EIO. */
SHOBJ_API int shobj_open(const char *name, const shobj_options *options, shobj_store **ret_store);

/* Undoes one shobj_open(). With the last one: open transactions of this process are aborted, its sessions end,
 * the mapping goes. Takes NULL. No other thread may be inside a call on the handle. */
SHOBJ_API void shobj_close(shobj_store *store);

/* Ends the calling thread's session on the store; an open transaction is aborted. The next call attaches anew. */
SHOBJ_API void shobj_detach(shobj_store *store);

/* Removes a store's file. Those who have it open go on. Without `force`: EBUSY while any process has it open. */
SHOBJ_API int shobj_unlink(const char *name, bool force);

/* Gives the memory of all that is free back to the system, while nobody has the store open (EBUSY; who wants to open it meanwhile
 * gets ELIMIT): collect before. It comes back as it is needed. *ret_bytes: how much was given back. ENOENT, EACCES, EFORMAT,
 * EVERSION, ECORRUPT, EIO (the file system can't do it). */
SHOBJ_API int shobj_trim(const char *name, uint64_t *ret_bytes);

/* Calls back with the path of each heap file in `directory` (NULL: $SHOBJ_DIR, else /dev/shm), sorted by name. A callback
 * result other than 0 ends the walk and is returned. */
SHOBJ_API int shobj_list_stores(const char *directory, int (*each)(const char *path, void *arg), void *arg);

/* Writes the absolute path that `name` stands for to buf. EINVAL if it does not fit. */
SHOBJ_API int shobj_store_path(const char *name, char *buf, size_t buf_bytes);

SHOBJ_API const char *shobj_path(const shobj_store *store);    /* absolute path as opened */
SHOBJ_API const uint8_t *shobj_uuid(const shobj_store *store); /* 16 bytes */
SHOBJ_API bool shobj_is_readonly(const shobj_store *store);
SHOBJ_API shobj_oid shobj_root(const shobj_store *store); /* the root dict */

/* What the collector does and has done (see "collection" below). */
typedef struct shobj_gc {
    char phase[8];         /* "idle", or of the cycle that is under way "arm", "roots", "mark", "kill", "sweep" */
    uint32_t cycle;        /* its number, or that of the last one */
    uint32_t growth;       /* percent of growth that starts the next one; UINT32_MAX: none starts by itself */
    int64_t began_ns;      /* of that cycle, CLOCK_REALTIME; 0: none yet */
    int64_t mark_ended_ns; /* when the last one that has come so far knew what is alive; 0: none yet */
    int64_t ended_ns;      /* of the last whole one; 0: none yet */
    uint64_t marked;       /* blocks found alive in that cycle; */
    uint64_t marked_bytes; /* as far as it has swept */
    uint64_t freed;        /* blocks freed in it */
    uint64_t freed_bytes;
    uint64_t live_bytes;   /* in blocks that the last whole one has left */
    uint64_t held_slabs;   /* that it could not sweep, since a session that had begun to stands still */
    uint64_t collections;  /* whole cycles so far */
    uint64_t freed_ever;   /* blocks freed in all cycles */
    uint64_t freed_ever_bytes;
} shobj_gc;

typedef struct shobj_stat {
    uint64_t file_bytes;  /* memory that the file occupies */
    uint64_t size_bytes;  /* end of the part in use */
    uint64_t max_bytes;   /* it may grow to */
    uint64_t used_bytes;  /* in live blocks */
    uint64_t free_bytes;  /* file_bytes not in live blocks nor in fixed tables */
    uint64_t objects;     /* live objects */
    uint64_t blocks;      /* live blocks (nodes and immutable blocks) */
    uint64_t commits;     /* transactions and changing single operations committed */
    uint64_t conflicts;   /* attempts that lost */
    uint64_t retries;     /* operations restarted on what another changed meanwhile */
    uint64_t elders;      /* times that a starving transaction was given the right of way */
    uint64_t recoveries;  /* dead participants cleaned up after */
    uint64_t sessions;    /* attached threads */
    uint64_t processes;   /* attached processes */
    uint64_t pins;        /* objects that processes keep alive from outside the heap */
    uint64_t slabs;       /* of 64 KiB, in use */
    uint64_t free_slabs;
    uint64_t given_slabs; /* of those, without memory (shobj_trim) */
    uint64_t kept_bytes;  /* free, but for one session alone: see shobj_session_info */
    uint64_t clock;       /* the commit clock */
    uint64_t layout_version;
    int64_t created_ns;   /* CLOCK_REALTIME at creation */
    shobj_gc gc;
} shobj_stat;

/* Counts live blocks by walking all slab descriptors and headers: time is proportional to the heap. */
SHOBJ_API int shobj_stat_get(shobj_store *store, shobj_stat *ret_stat);

typedef struct shobj_session_info {
    uint32_t session;    /* slot number */
    uint32_t process;    /* number of the process record */
    int64_t pid;         /* as the process saw itself; for people only */
    int64_t tid;
    bool alive;          /* the process holds its liveness lock */
    bool self;           /* a session of the calling process */
    char state[16];      /* "idle", "active" (in a transaction), "locking", "committing", "aborted" */
    uint64_t seq;        /* attempts so far */
    uint64_t commits;
    uint64_t conflicts;
    int64_t attached_ns; /* CLOCK_REALTIME */
    int64_t began_ns;    /* of the open transaction, CLOCK_REALTIME; 0 without one */
    uint32_t held_count; /* nodes it has locked at the moment */
    uint64_t kept_bytes; /* free blocks that nobody else can use as long as it lives: in slabs that it takes blocks
                            from, and one that it has begun to sweep */
    uint64_t holds;      /* objects that its last call has returned and that are alive for that reason */
    uint64_t pins;       /* objects that its process keeps alive */
} shobj_session_info;

/* Calls back for each session slot in use, dead ones included; stops at a result other than 0 and returns it. */
SHOBJ_API int shobj_sessions(shobj_store *store, int (*each)(const shobj_session_info *info, void *arg), void *arg);

/* Recovers every dead process of the store now (the others would do it as they meet what it left). */
SHOBJ_API int shobj_reap(shobj_store *store, unsigned *ret_count);

/* Verifies the whole store: superblock, slab descriptors, free lists, every node, block and container reachable from
 * the root. Calls `report` (may be NULL) with one line per problem ("where: what is wrong"). Returns 0 if whole,
 * ECORRUPT if not. Others may go on working meanwhile; what they change is looked at again. */
SHOBJ_API int shobj_check(shobj_store *store, void (*report)(const char *line, void *arg), void *arg,
                          uint64_t *ret_problem_count);

typedef struct shobj_repair_options {
    const char *output; /* a path (with a '/') for the repaired heap: the store stays as it is. NULL: it takes the store's name */
    const char *backup; /* keeps the damaged file under this path. NULL: it is removed */
} shobj_repair_options;

/* Makes a whole heap of a damaged one: copies all that can be read, from the root on, into a new file with the same uuid
 * and max_size, and puts it in the place of the old one at one instant. Also for stores that can't be opened any more: their
 * superblock fails, they were cut, or in use when the machine went down. Objects get new ids. Calls `report` (may be
 * NULL) with one line per loss; an element of a list that is lost becomes None, a dict's key goes with its value. If
 * anything was lost, objects that nothing leads to any more are put into the root's "lost+found". options NULL:
 * defaults. EBUSY while any process has the store open; what else shobj_open() and a full disk have. */
SHOBJ_API int shobj_repair(const char *name, const shobj_repair_options *options,
                           void (*report)(const char *line, void *arg), void *arg, uint64_t *ret_lost_count);

/* ---------------------------------------------------------------------------------------------- transactions
 *
 * One thread has at most one transaction open. Blocks inside it are savepoints: undoing one takes back what it changed;
 * what it has read still counts. The thread that keeps losing draws a ticket at its first failure; from about the
 * eighth on the oldest such ticket goes first: nobody else commits while its transaction runs. So everybody whose body
 * ends commits within a bounded number of executions. */

/* Begins a transaction of the calling thread, or inside one, a nested block (a savepoint). ETXN if the thread has
 * one open on another store. ETIMEOUT, EINTR while waiting for an older transaction that has the right of way. */
SHOBJ_API int shobj_txn_begin(shobj_store *store);

/* The same for a transaction that only reads: changes fail with EREADONLY. Inside one, a nested block as any. */
SHOBJ_API int shobj_txn_begin_read(shobj_store *store);

/* Ends the innermost block. The outermost one is decided here: 0 and everything happened at one instant, or an error
 * and nothing did (ECONFLICT: run the body again). Either way the block has ended. ETXN without a transaction. */
SHOBJ_API int shobj_txn_commit(shobj_store *store);

/* Undoes and ends the innermost block (what it read still counts, if it was nested). No effect without one. */
SHOBJ_API void shobj_txn_abort(shobj_store *store);

/* Number of open blocks of the calling thread: 0 outside a transaction. */
SHOBJ_API unsigned shobj_txn_depth(shobj_store *store);

/* True when an operation in the open transaction has met a conflict: it can't commit any more, every further operation
 * fails with ECONFLICT, and shobj_txn_abort() and a new attempt are due. */
SHOBJ_API bool shobj_txn_is_doomed(shobj_store *store);

/* Waits a random moment that grows with `attempt` (the number of failures so far, 1 and up); to be called between
 * attempts, outside the transaction. */
SHOBJ_API void shobj_txn_backoff(shobj_store *store, unsigned attempt);

/* Undoes the whole open transaction, all its blocks, and ends it; then sleeps until something that it had read has changed
 * (0: run the body again), the thread's deadline has passed (ETIMEOUT), or a signal interrupts (EINTR). Comes back at once if
 * it has changed already. ETXN without a transaction, or if it has read nothing: it would sleep for ever. EREADONLY
 * if this process may not write the heap file: nobody could wake it. */
SHOBJ_API int shobj_txn_wait(shobj_store *store);

/* Until when the calling thread's operations, commits and waits on this store may wait for others: CLOCK_MONOTONIC in
 * nanoseconds, 0 for ever (as at first). Past it they fail with ETIMEOUT, which tells whom they waited for, undone;
 * what need not wait still succeeds. Returns the deadline that was set before. */
SHOBJ_API int64_t shobj_deadline(shobj_store *store, int64_t deadline_ns);

/* Has `fn` called once when the open transaction is over: `committed` true after the commit; false when the block that is
 * innermost now, or one around it, was undone. It runs in this thread after the fact, the last registered first when
 * undone, the first registered first when committed, and may use the store. Not called if the thread ends, detaches or closes
 * the store with the transaction open. ETXN without a transaction, ENOMEM. */
SHOBJ_API int shobj_txn_on_end(shobj_store *store, void (*fn)(shobj_store *store, void *arg, bool committed), void *arg);

/* Runs fn(store, arg) as a transaction until it commits. A negative result of fn aborts and is returned, but for
 * ECONFLICT (aborts and runs again) and ERETRY (aborts, sleeps until something that fn has read changes, and runs again). Inside
 * a transaction, a nested block; ECONFLICT and ERETRY then go to the caller. Another result is fn's, of the execution that
 * committed. */
SHOBJ_API int shobj_run(shobj_store *store, int (*fn)(shobj_store *store, void *arg), void *arg);

/* A transaction (or a nested block) that does what `first` does, or, if that says ERETRY, is undone and does what
 * `second` does. If both say so it waits for a change of anything that either has read. */
SHOBJ_API int shobj_or_else(shobj_store *store, int (*first)(shobj_store *store, void *arg),
                            int (*second)(shobj_store *store, void *arg), void *arg);

/* ---------------------------------------------------------------------------------------------- objects */

/* Kind and version of an object. The version (may be NULL) grows with each change of the object's first node. ESTALE if gone. */
SHOBJ_API int shobj_object(shobj_store *store, shobj_oid oid, enum shobj_kind *ret_kind, uint64_t *ret_version);

/* An object lives as long as something reachable from the root refers to it, or a pin does. What a call returns is held besides
 * until the thread's next call on the store that returns values (or shobj_release()): take it over until then, with a pin or by
 * storing it. The id of an object that has gone gives ESTALE. */
typedef struct shobj_pins shobj_pins;

/* A table of pins of this process. One thread uses it at a time; a child of fork() has a copy of all. It ends with the store. ENOMEM. */
SHOBJ_API int shobj_pins_open(shobj_store *store, shobj_pins **ret_pins);
/* Drops all its pins. Takes NULL. Not after the store was closed. */
SHOBJ_API void shobj_pins_close(shobj_pins *pins);
/* Keeps an object alive until shobj_unpin(). ESTALE: it has gone. ENOMEM. On a store whose file this process may not write, or
 * that has no room for a longer table, nothing is kept (SHOBJ_PIN_NONE): the object may go. */
SHOBJ_API int shobj_pin(shobj_pins *pins, shobj_oid oid, uint32_t *ret_pin);
#define SHOBJ_PIN_NONE UINT32_MAX /* no pin: shobj_unpin() does nothing */
SHOBJ_API void shobj_unpin(shobj_pins *pins, uint32_t pin);

/* Holds an object as if the thread's last call had returned it: over the commit of the transaction that made it, say. ESTALE, EFULL. */
SHOBJ_API int shobj_hold(shobj_store *store, shobj_oid oid);

/* Lets go of one object that the thread's last call has returned, or (0) of all. */
SHOBJ_API void shobj_release(shobj_store *store, shobj_oid oid);

/* ---------------------------------------------------------------------------------------------- collection
 *
 * Objects that nobody can reach any more are freed by a concurrent, parallel mark and sweep, which runs by itself as the heap
 * grows, in a thread of a process that notices it. Nobody waits for it; all processes may go on, stop or die meanwhile. */

/* Runs a whole collection that begins after the call, with so many threads (1 and up; 0 is 1), beside others who may be helping. All
 * that was unreachable at the call is free then, but for what a collection leaves to a helper of an earlier one that
 * stands still. EREADONLY, ETXN (inside a transaction), ETIMEOUT, EINTR (whoever collects next goes on with it). */
SHOBJ_API int shobj_collect(shobj_store *store, unsigned threads);

/* The heap's growth, in percent of what the last collection has left, that starts the next one: kept in the heap; 0: the
 * default (20); UINT32_MAX: none starts by itself. EREADONLY. */
SHOBJ_API int shobj_gc_growth(shobj_store *store, uint32_t percent);

/* What the collector does and has done, without a walk through the heap. */
SHOBJ_API void shobj_gc_get(shobj_store *store, shobj_gc *ret_gc);

/* One size of blocks. */
typedef struct shobj_class {
    bool is_node;         /* parts of objects; else immutable values */
    uint64_t block_bytes; /* 0: values of more than 56 KiB that have a run of whole slabs each */
    uint64_t slabs;       /* in use for them */
    uint64_t used, free;  /* blocks */
    uint64_t used_bytes, free_bytes;
} shobj_class;

/* Calls back for each size of which there are slabs, nodes first; stops at a result other than 0 and returns it. */
SHOBJ_API int shobj_classes(shobj_store *store, int (*each)(const shobj_class *info, void *arg), void *arg);

/* Somebody who keeps objects alive that the root does not lead to. */
typedef struct shobj_holder {
    bool is_session;  /* its transaction or last call does; else the pins of its process */
    uint32_t process; /* as in shobj_session_info */
    uint32_t session; /* of a session */
    int64_t pid;
    uint64_t blocks, bytes, objects; /* that are alive for its sake, and for that of nobody in front of it */
} shobj_holder;

typedef struct shobj_garbage {
    uint64_t live, live_bytes, live_objects; /* what the root, pins, sessions and transactions keep */
    uint64_t held, held_bytes, held_objects; /* of it, what the root does not lead to */
    uint64_t free, free_bytes, free_objects; /* blocks that a collection would free */
    bool is_exact; /* nobody has changed anything meanwhile: else the numbers are about right */
} shobj_garbage;

/* What a collection would do now: looks through all that is alive, changes nothing. Calls `each` (may be NULL) for each holder of something that
 * nothing else keeps; a result of it other than 0 is returned. On a store that others change it looks three times at most.
 * ENOMEM, ETXN (inside a transaction). */
SHOBJ_API int shobj_garbage_get(shobj_store *store, shobj_garbage *ret_garbage,
                                int (*each)(const shobj_holder *holder, void *arg), void *arg);

enum shobj_keeper {
    SHOBJ_KEEPER_ROOT,        /* a path from the root */
    SHOBJ_KEEPER_PIN,         /* a process has a pin, as proxies have */
    SHOBJ_KEEPER_HOLD,        /* a session's last call has returned it */
    SHOBJ_KEEPER_TRANSACTION  /* a transaction that is open, or being committed, names it */
};

typedef struct shobj_reason {
    enum shobj_keeper keeper;
    uint32_t process; /* but for ROOT: as in shobj_session_info */
    uint32_t session; /* of HOLD and TRANSACTION */
    int64_t pid;
    const char *path; /* from there: "/a/0", or "@0123456789abcdef/a/0" from the object that is kept */
} shobj_reason;

/* Calls back with what keeps an object alive: for each container that refers to it a shortest path from the root, or, if the root does not
 * lead there, from who keeps it; and whoever keeps it itself. At most `max` times. A result of `each` other than 0 ends it and
 * is returned. Never called: nothing keeps it. ESTALE (it has gone), ENOMEM, ETXN (inside a transaction). */
SHOBJ_API int shobj_why(shobj_store *store, shobj_oid oid, unsigned max,
                        int (*each)(const shobj_reason *reason, void *arg), void *arg);

/* Dicts: insertion-ordered; keys are any value but objects; equal keys (1, 1.0, True) are one key. ENOTFOUND: no such
 * key. The keys of an API call with `_key` were made by shobj_key_init() for this store. */
SHOBJ_API int shobj_dict_new(shobj_store *store, const shobj_item *items, size_t count, shobj_oid *ret_dict);
SHOBJ_API int shobj_dict_len(shobj_store *store, shobj_oid dict, uint64_t *ret_count);
SHOBJ_API int shobj_dict_get(shobj_store *store, shobj_oid dict, const shobj_key *key, shobj_value *ret_value);
SHOBJ_API int shobj_dict_has(shobj_store *store, shobj_oid dict, const shobj_key *key, bool *ret_has);
SHOBJ_API int shobj_dict_set(shobj_store *store, shobj_oid dict, const shobj_key *key, const shobj_value *value);
/* Stores value if the key is absent; *ret_value (may be NULL) is what is there afterwards. */
SHOBJ_API int shobj_dict_setdefault(shobj_store *store, shobj_oid dict, const shobj_key *key,
                                    const shobj_value *value, shobj_value *ret_value);
/* Removes a key; *ret_value (may be NULL) is what was there. */
SHOBJ_API int shobj_dict_del(shobj_store *store, shobj_oid dict, const shobj_key *key, shobj_value *ret_value);
/* Removes and returns the last inserted (or, first = true, the first) entry. ENOTFOUND: empty. */
SHOBJ_API int shobj_dict_popitem(shobj_store *store, shobj_oid dict, bool first, shobj_item *ret_item);
SHOBJ_API int shobj_dict_clear(shobj_store *store, shobj_oid dict);

/* A position in a dict's insertion order. It stays good while others insert and delete: an entry that is there all
 * the while is met exactly once. */
typedef struct shobj_dict_iter {
    shobj_oid dict;
    uint64_t serial; /* of the last entry given out */
    uint64_t hint_off;
    uint64_t hint_header;
    uint64_t hint_version;
    bool reverse;
    bool started;
} shobj_dict_iter;

SHOBJ_API void shobj_dict_iter_init(shobj_dict_iter *iter, shobj_oid dict, bool reverse);
/* The next entries, at most `max` (at least 1; 32 is a good number), each batch one consistent read;
 * *ret_count is 0 at the end. */
SHOBJ_API int shobj_dict_iter_next(shobj_store *store, shobj_dict_iter *iter, shobj_item *ret_items, size_t max,
                                   size_t *ret_count);

/* Lists. An index below 0 counts from the end. ENOTFOUND: out of range. */
SHOBJ_API int shobj_list_new(shobj_store *store, const shobj_value *values, size_t count, shobj_oid *ret_list);
SHOBJ_API int shobj_list_len(shobj_store *store, shobj_oid list, uint64_t *ret_count);
SHOBJ_API int shobj_list_get(shobj_store *store, shobj_oid list, int64_t index, shobj_value *ret_value);
/* The values from `first` (0 and up) on, at most max, one consistent read; *ret_count may be less than
 * max before the end (call again), and is 0 at or behind the end. After an error ret_values may hold anything. */
SHOBJ_API int shobj_list_read(shobj_store *store, shobj_oid list, uint64_t first, shobj_value *ret_values, size_t max,
                              size_t *ret_count);
SHOBJ_API int shobj_list_set(shobj_store *store, shobj_oid list, int64_t index, const shobj_value *value);
SHOBJ_API int shobj_list_append(shobj_store *store, shobj_oid list, const shobj_value *value);
/* All values or none, in one operation. */
SHOBJ_API int shobj_list_extend(shobj_store *store, shobj_oid list, const shobj_value *values, size_t count);
/* Before index; clamped to the ends, as Python's list.insert. */
SHOBJ_API int shobj_list_insert(shobj_store *store, shobj_oid list, int64_t index, const shobj_value *value);
/* Removes an element; *ret_value (may be NULL) is what was there. */
SHOBJ_API int shobj_list_del(shobj_store *store, shobj_oid list, int64_t index, shobj_value *ret_value);
/* Removes `count` elements from `first` (0 and up) on, or as many as there are, in one operation. */
SHOBJ_API int shobj_list_cut(shobj_store *store, shobj_oid list, uint64_t first, uint64_t count);
SHOBJ_API int shobj_list_clear(shobj_store *store, shobj_oid list);

/* ---------------------------------------------------------------------------------------------- text and addresses */

/* Addresses: STORE, STORE:/json/pointer or STORE:@OID. The path is RFC 6901 ("~1" is '/', "~0" is '~'), with list
 * indices (negative ones from the end; "-" is the end), and "~=" before a Python literal for keys that are not str:
 * "/~=42", "/~=(1, 2)", "/~=b'x'"; "~=''" is the empty str. A '/' at the end does not count; an empty step elsewhere is
 * EINVAL. */

/* Finds the ':' that ends the store part; *ret_store_bytes is its length; *ret_path points behind the colon, or to "" */
SHOBJ_API int shobj_address_split(const char *address, size_t *ret_store_bytes, const char **ret_path);

/* The value at a path ("" is the root; "@1f2e..." an object's id, a path may follow). ENOTFOUND, ETYPE, EINVAL (bad syntax). */
SHOBJ_API int shobj_path_get(shobj_store *store, const char *path, shobj_value *ret_value);

/* The container and the last step of a path. *ret_step: the dict key or list index (INT), ABSENT for "-"; its bytes
 * live as returned values do. EINVAL if the path has no last step. */
SHOBJ_API int shobj_path_parent(shobj_store *store, const char *path, shobj_oid *ret_container,
                                enum shobj_kind *ret_kind, shobj_value *ret_step);

/* Sets, or deletes (value NULL), what a path names. Atomic. A list takes "-" for append. */
SHOBJ_API int shobj_path_set(shobj_store *store, const char *path, const shobj_value *value);

/* The text of one path step, escaped, for a dict key: what shobj_path_get() reads back as that key (an INT gives
 * "~=42"; a list index is written in plain decimal). Returns the number of bytes it needs without the final NUL; writes at most buf_bytes with the NUL. */
SHOBJ_API size_t shobj_path_step(const shobj_value *key, char *buf, size_t buf_bytes);

/* Reads one Python literal (None, True, ints, floats, complex, str and bytes with escapes, tuples, frozenset({...})) into
 * value; its memory is one malloc()ed block, *ret_memory, to be free()d (NULL if none). EINVAL tells the column. */
SHOBJ_API int shobj_literal_parse(const char *text, shobj_value *ret_value, void **ret_memory);

enum shobj_form {
    SHOBJ_FORM_LITERAL, /* Python literals, containers as [..] and {..}; ints of over 16 KiB in hexadecimal */
    SHOBJ_FORM_JSON,    /* plain JSON: bytes as base64, tuples and sets as arrays, keys that are not str by their
                           literal, NaN and infinities as null, ints of over 16 KiB as a string with their literal; an
                           object met again inside itself as {"$ref": oid} */
    SHOBJ_FORM_DUMP     /* exact JSON with $bytes, $tuple, $set, $dict, $float, $int, $ref tags */
};

/* Writes the text of a value and all below it through `write` (stops at a result other than 0 and returns it). indent 0:
 * one line; otherwise spaces per level. depth_max: levels of containers to open (deeper ones are "..."), 0 for no
 * bound. Each batch of entries is one consistent read; all of it is if the caller opened a transaction. */
SHOBJ_API int shobj_render(shobj_store *store, const shobj_value *value, enum shobj_form form, unsigned indent,
                           unsigned depth_max, int (*write)(const char *text, size_t bytes, void *arg), void *arg);

/* The 16 hex digits of an id, NUL-terminated, and back (EINVAL). */
SHOBJ_API void shobj_oid_format(shobj_oid oid, char ret_text[17]);
SHOBJ_API int shobj_oid_parse(const char *text, shobj_oid *ret_oid);

#ifdef __cplusplus
}
#endif

#endif
