/*
 * layout.h: everything that is stored in a heap file, and nothing else.
 *
 *   0          superblock (fixed part, then each hot word on a cache line of its own)
 *   4 KiB      partial-slab stacks, one word per size class
 *   8 KiB      wait buckets, one word each: who sleeps until a node changes
 *   12 KiB     process records, 64 bytes each
 *   44 KiB     session slots, one page each: state, owner's words, what it holds, the first part of the log
 *   past_off   what recent commits have overwritten, 256 bytes each (backed when somebody asks for it)
 *   dir_off    slab directory, 64 bytes per 64 KiB slab of max_size (sparse; backed as the file grows)
 *   mark_off   the collector's marks, 704 bytes per slab (sparse likewise)
 *   data_off   slabs
 *
 * References are byte offsets from the start of the file; offset 0 (the superblock) is no reference. Nothing here is a
 * pointer, a pid that is trusted, or a lock that the kernel does not drop with its holder.
 *
 * Blocks are *nodes* (mutable, with an ownership record in front) and *boxes* (immutable, owned by one cell). They
 * never share a slab, and a slab of nodes stays one of that class for ever: a compare-and-swap on the orec of a node
 * that has been freed meanwhile meets a raised version, never other bytes.
 */
#ifndef SHO_LAYOUT_H
#define SHO_LAYOUT_H

#include "base/base.h"

#define SHM_MAGIC 0x316a626f68730a89ULL /* 89 'LF' "shobj1", little-endian */
#define SHM_LAYOUT_VERSION 4u

#define SHM_PAGE_BYTES 4096u
#define SHM_SLAB_SHIFT 16u
#define SHM_SLAB_BYTES (1u << SHM_SLAB_SHIFT)
#define SHM_PROCESS_MAX 512u
#define SHM_SLOT_MAX 512u
#define SHM_SLOT_BYTES 4096u

#define SHM_PARTIAL_OFF 4096u
#define SHM_BUCKET_OFF 8192u
#define SHM_BUCKET_COUNT 512u
#define SHM_PROCESS_OFF (SHM_BUCKET_OFF + SHM_BUCKET_COUNT * 8u)
#define SHM_SLOT_OFF (SHM_PROCESS_OFF + SHM_PROCESS_MAX * 64u)
#define SHM_PAST_OFF (SHM_SLOT_OFF + SHM_SLOT_MAX * SHM_SLOT_BYTES)
#define SHM_PAST_CELLS 2048u
#define SHM_DIR_OFF (SHM_PAST_OFF + SHM_PAST_CELLS * 256u)

/* ------------------------------------------------------------------------------------------ superblock */

struct shm_superblock {
    /* Fixed at creation, covered by `checksum`. */
    uint64_t magic;
    uint32_t layout_version;
    uint32_t header_bytes; /* sizeof(struct shm_superblock) */
    uint8_t uuid[16];
    uint64_t max_bytes;
    uint64_t dir_off;
    uint64_t mark_off;
    uint64_t data_off;
    uint64_t hash_seed[2];
    uint64_t root_oid; /* the root dict */
    int64_t created_ns;
    uint8_t boot_id[16]; /* at creation; the current one is in boot_id_now */
    uint64_t fences;     /* enum shm_fences */
    uint64_t checksum;   /* FNV-1a over all above */

    /* Read-mostly: changed by growth and by openers. */
    _Alignas(64) sho_word slab_count; /* slabs from offset 0 on that are backed by memory */
    sho_word slot_high;               /* slots that were ever claimed (their pages are backed) */
    sho_word boot_id_now[2];
    sho_word elder; /* who has the right of way: ticket << 16 | slot + 1; 0: nobody */
    sho_word gc;    /* the collector: cycle << 32 | pass << 8 | enum shm_gc_phase */
    sho_word past_until; /* commits up to this version leave what they overwrite in their cells; 0: nobody ever asked */

    /* The commit clock, alone on its line. */
    _Alignas(64) sho_word clock;

    /* Drawn by those who lose. */
    _Alignas(64) sho_word tickets;
    sho_word elders; /* how often the right of way was taken */
    sho_word recoveries;
    sho_word collections;

    /* Allocation hints: inexact after a crash, corrected by check and collection. */
    _Alignas(64) sho_word free_slab_hint;  /* about how many slabs are free */
    sho_word free_scan_hint;               /* where the last search ended */
    sho_word empty_slab_hint;              /* listed box slabs that hold nothing */
    sho_word allocated_bytes;              /* in free blocks that sessions have taken over since somebody looked */
    sho_word collect_at;                   /* so many: time to look whether a collection is due; 0: not yet planned */

    /* The collector's figures; `live_bytes` is what the last cycle left. */
    _Alignas(64) sho_word live_bytes;
    sho_word gc_began_ns;   /* of the cycle that is under way, or was last */
    sho_word gc_marked;     /* blocks marked in it */
    sho_word gc_marked_bytes;
    sho_word gc_freed;      /* blocks freed in it */
    sho_word gc_freed_bytes;
    sho_word gc_ended_ns;
    _Alignas(64) sho_word gc_growth; /* percent of growth that starts a cycle; 0: the default */
    sho_word gc_held_slabs;          /* not swept by the last cycle: who had begun stands still */
    sho_word gc_freed_ever;          /* blocks freed in all cycles */
    sho_word gc_freed_ever_bytes;
    sho_word gc_mark_ended_ns;       /* of the last cycle that has come so far */
    uint64_t end_pad[3];
};
_Static_assert(sizeof(struct shm_superblock) <= SHM_PARTIAL_OFF, "in front of the stacks");

/* How far the collector is (gc/README.md). */
enum shm_gc_phase {
    SHM_GC_IDLE = 0,
    SHM_GC_ARM = 1,
    SHM_GC_ROOTS = 2,
    SHM_GC_MARK = 3,
    SHM_GC_KILL = 4,
    SHM_GC_SWEEP = 5
};
#define SHM_GC(cycle, pass, phase) ((uint64_t)(cycle) << 32 | (uint64_t)((pass)&0xffffff) << 8 | (uint64_t)(phase))
#define SHM_GC_PHASE(gc) ((unsigned)((gc)&0xff))
#define SHM_GC_PASS(gc) ((uint32_t)((gc) >> 8 & 0xffffff))
#define SHM_GC_CYCLE(gc) ((uint32_t)((gc) >> 32))
/* From arming to the end of marking: references that are stored are shaded. */
#define SHM_GC_IS_MARKING(gc) (SHM_GC_PHASE(gc) - SHM_GC_ARM <= SHM_GC_MARK - SHM_GC_ARM)


/* ------------------------------------------------------------------------------------------ processes, slots */

/* How a committer orders its unlocking before its look at the wait buckets. */
enum shm_fences {
    SHM_FENCES_ALL = 0, /* each by a full barrier */
    SHM_FENCES_RARE = 1 /* by nothing: whoever goes to sleep makes a barrier for all (membarrier) */
};

enum { SHM_PROCESS_FREE = 0, SHM_PROCESS_LIVE = 1 };

/* Its first byte is locked (an open-file-description lock) while the process lives. */
struct shm_process {
    sho_word state; /* enum above | generation << 8 */
    sho_word pid;   /* as the process sees itself; shown to people, never trusted */
    sho_word attached_ns;
    sho_word pins; /* the first chunk of its pins (a box), 0: none */
    sho_word reserved[4];
};
_Static_assert(sizeof(struct shm_process) == 64, "one cache line");

/* State word: seq << 8 | phase. A seq names one attempt (one locking round) of one slot and never comes back. */
enum shm_phase {
    SHM_FREE = 0,      /* nobody's slot */
    SHM_IDLE = 1,      /* attached; what its log names was not committed */
    SHM_LOCKING = 2,   /* locks nodes; anyone may abort it */
    SHM_ABORTED = 3,   /* lost: its locks are given back to the logged bases by whoever meets them */
    SHM_COMMITTED = 4, /* decided: its log will be stored */
    SHM_SINGLE = 5     /* one node, decided by slot.wv */
};
#define SHM_PHASE(state) ((unsigned)((state)&0xff))
#define SHM_SEQ(state) ((state) >> 8)
#define SHM_STATE(seq, phase) ((uint64_t)(seq) << 8 | (phase))
#define SHM_SEQ_BITS 46
#define SHM_SEQ_MASK ((1ULL << SHM_SEQ_BITS) - 1)

/* Marks in wv of a SINGLE attempt, before its version is known: seq << 2 | mark (versions are multiples of 4). One
 * that carries another seq is left over and means nothing. */
enum shm_mark {
    SHM_MARK_DECIDED = 1,  /* somebody has read the new words: the owner must go on */
    SHM_MARK_GIVEN_BACK = 2 /* the owner gives its lock back */
};
#define SHM_MARK(seq, mark) ((uint64_t)(seq) << 2 | (mark))

#define SHM_HOLD_MAX 64u
#define SHM_LOG_INLINE_BYTES (SHM_SLOT_BYTES - 256 - 128 - SHM_HOLD_MAX * 8)

/* One page. The first line is what others look at, the second is the owner's own, the third what the collector asks. */
struct shm_slot {
    _Alignas(128) sho_word state;
    sho_word wv;      /* the version that the current commit unlocks to; 0 until it is known; or enum shm_mark */
    sho_word log_end; /* complete records: segment number << 32 | bytes in that segment; 0: none */
    sho_word process; /* process record index + 1; 0: free */
    sho_word ticket;  /* drawn at the first of a row of failures << 1 | starving; 0: none */
    sho_word leases;  /* how often this ticket's right of way has run out */
    sho_word wake;    /* its low half is the futex that the thread sleeps on; counts wake-ups */
    sho_word waiting; /* 1: about to sleep, or asleep */
    sho_word reserved0[8];

    _Alignas(128) sho_word log_next; /* offset of log segment 1 (a box), 0 if none */
    sho_word tid;
    sho_word attached_ns;
    sho_word began_ns; /* of the open transaction */
    sho_word commits;  /* counters stay with the slot for ever: store totals are their sums */
    sho_word conflicts;
    sho_word retries;
    sho_word reserved1[9];

    _Alignas(128) sho_word taking; /* a block that is being taken; 0: none */
    sho_word freeing;    /* one that is being freed; 0: none */
    sho_word sweeping;   /* slab + 1 that it sweeps; 0: none */
    sho_word scans;      /* nodes that it has shaded: only grows, stays with the slot */
    sho_word hold_count; /* objects that the last call returned */
    sho_word holds_more; /* a box with those that have no place in holds[]; 0: none */
    sho_word listing;    /* slab + 1 that is on its way to a stack or from it (slab_stack.c); 0: none */
    sho_word kept;       /* slab + 1, the first of a chain that was taken off a stack; 0: none */
    sho_word reserved2[8];
    sho_word holds[SHM_HOLD_MAX]; /* ids */

    sho_word log[SHM_LOG_INLINE_BYTES / 8]; /* log segment 0 */
};
_Static_assert(sizeof(struct shm_slot) == SHM_SLOT_BYTES, "one page");

/* The log: records back to back in segments, a segment's unused end filled with 0. Segment 0 is in the slot; others are
 * boxes of kind SHM_BOX_LOG, chained. First word of a record: offset | type (offsets are multiples of 8). */
enum shm_record {
    SHM_RECORD_NONE = 0,  /* one word; done with */
    SHM_RECORD_WRITE = 1, /* struct shm_write */
    SHM_RECORD_ALLOC = 2, /* one word: a block taken for this transaction */
    SHM_RECORD_FREE = 3,   /* one word: a block to free after commit */
    SHM_RECORD_DROPPED = 4, /* one word: taken and dropped again: to free in any case */
    SHM_RECORD_HOLD = 5    /* one word: an object that the transaction is going to need */
};
#define SHM_RECORD_TYPE(word) ((unsigned)((word)&7))
#define SHM_RECORD_OFF(word) ((word)&0x00fffffffffffff8ULL)
#define SHM_RECORD_WORDS(word) ((unsigned)((word) >> 56))

#define SHM_NODE_WORDS_MAX 64u

/* The redo record of one node: the words that change. Its length in words is 3 + the room for them. */
struct shm_write {
    sho_word node; /* offset | SHM_RECORD_WRITE | room: the node's word count, or 0 if it is only freed << 56 */
    sho_word base; /* the orec before: a version. Bit 0 (SHM_WRITE_FREES): commit frees the node */
    sho_word mask; /* bit i: words[i] is valid and replaces the node's */
    sho_word words[];
};
#define SHM_WRITE_FREES 1ULL

/* What one commit has overwritten (txn/past.c): for each node offset | number of words << 56, base version, mask, header
 * and the words under the mask; a 0 ends it early. */
#define SHM_PAST_WORDS 31u
struct shm_past {
    sho_word version; /* of the commit; bit 0: being written */
    sho_word words[SHM_PAST_WORDS];
};
_Static_assert(sizeof(struct shm_past) == 256, "four cache lines");

struct shm_log_segment {
    sho_word header; /* of the box */
    sho_word next;
    sho_word bytes; /* room in records[] */
    sho_word records[];
};

/* ------------------------------------------------------------------------------------------ slabs */

enum shm_slab_kind {
    SHM_SLAB_FREE = 0, /* all-zero descriptors are free slabs */
    SHM_SLAB_META = 1, /* superblock, tables, directory */
    SHM_SLAB_NODES = 2,
    SHM_SLAB_BOXES = 3,
    SHM_SLAB_RUN = 4,     /* the first slab of a large box */
    SHM_SLAB_RUN_TAIL = 5 /* a further one, or one of a wide slab of boxes */
};

/* state: kind:8 | class:8 | owner slot + 1:16 | low 32 bits of the owner's attach stamp. */
#define SHM_SLAB_STATE(kind, cls, owner, stamp)                                                    \
    ((uint64_t)(kind) | (uint64_t)(cls) << 8 | (uint64_t)(owner) << 16 | (uint64_t)(stamp) << 32)
#define SHM_SLAB_KIND(state) ((unsigned)((state)&0xff))
#define SHM_SLAB_CLASS(state) ((unsigned)((state) >> 8 & 0xff))
#define SHM_SLAB_OWNER(state) ((unsigned)((state) >> 16 & 0xffff))

/* remote: frees by those who do not own the slab: head block + 1:16 | count:16 | flag:8 | tag:24 */
enum { SHM_REMOTE_UNLISTED = 0, SHM_REMOTE_OWNED = 1, SHM_REMOTE_LISTED = 2 };

enum shm_lost {
    SHM_LOST_BLOCKS = 1, /* some may be on no list: its owner or its sweeper has died */
    SHM_LOST_PLACE = 2   /* it may be on no stack: who had it in transit has died */
};

struct shm_slab {
    sho_word state;
    sho_word remote;
    sho_word private_list; /* owner's: head block + 1:16 | never used from:16 | free blocks in both:16 */
    sho_word next;         /* next slab + 1 in the class's partial stack */
    sho_word run_slabs;    /* of a RUN or a wide slab: its length; of a RUN_TAIL: the first slab */
    sho_word sweep;        /* cycle << 16 | sweeper's slot + 1; 0 there: swept */
    sho_word lost;         /* enum shm_lost */
    sho_word given;        /* of a free slab: enum shm_given | the last birth of the nodes that it has held << 32 */
};
_Static_assert(sizeof(struct shm_slab) == 64, "one cache line");

/* The memory of a free slab has been given back to the system: it is backed anew before the slab is claimed. */
enum shm_given { SHM_GIVEN_BACK = 1 };
#define SHM_GIVEN_BIRTH(given) ((uint32_t)((given) >> 32))

/* ------------------------------------------------------------------------------------------ blocks */

/* Header word of every block: kind:8 | units:8 | reserved:16 | birth:32 for nodes (units: payload words);
 * kind:8 | flags:8 | reserved:8 | bytes:40 for boxes (bytes of payload). Kind 0 is a free block. */
enum shm_kind {
    SHM_KIND_FREE = 0,
    SHM_DICT = SHOBJ_KIND_DICT, /* first nodes of objects */
    SHM_LIST = SHOBJ_KIND_LIST,
    SHM_DICT_ORDER = 16, /* parts of objects */
    SHM_DICT_TRIE = 17,
    SHM_DICT_GROUP = 18,
    SHM_DICT_CHUNK = 19,
    SHM_LIST_INNER = 24,
    SHM_LIST_LEAF = 25,
    SHM_BOX_FLOAT = 64, /* immutable boxes */
    SHM_BOX_INT = 65,
    SHM_BOX_STR = 66,
    SHM_BOX_BYTES = 67,
    SHM_BOX_TUPLE = 68,
    SHM_BOX_FROZENSET = 69,
    SHM_BOX_COMPLEX = 70,
    SHM_BOX_LOG = 80,
    SHM_BOX_PINS = 81,  /* struct shm_pins */
    SHM_BOX_HOLDS = 82, /* a count, and ids */
    SHM_DYING = 127     /* a node out of use that somebody is going to free: the collector, or who has committed that */
};
#define SHM_KIND_IS_OBJECT(kind) ((kind) > 0 && (kind) < 16)

#define SHM_HEADER_KIND(h) ((unsigned)((h)&0xff))
#define SHM_NODE_HEADER(kind, words, birth)                                                        \
    ((uint64_t)(kind) | (uint64_t)(words) << 8 | (uint64_t)(birth) << 32)
#define SHM_NODE_WORDS(h) ((unsigned)((h) >> 8 & 0xff))
#define SHM_NODE_BIRTH(h) ((uint32_t)((h) >> 32))
/* What identifies a node's incarnation. */
#define SHM_NODE_IDENTITY_MASK 0xffffffff0000ffffULL
#define SHM_BOX_HEADER(kind, flags, bytes)                                                         \
    ((uint64_t)(kind) | (uint64_t)(flags) << 8 | (uint64_t)(bytes) << 24)
#define SHM_BOX_FLAGS(h) ((unsigned)((h) >> 8 & 0xff))
#define SHM_BOX_BYTES_OF(h) ((h) >> 24)
#define SHM_BOX_BYTES_MAX ((1ULL << 40) - 1)
enum { SHM_BOX_NEGATIVE = 1, SHM_BOX_ASCII = 2 };

struct shm_node {
    sho_word orec;
    sho_word header;
    sho_word words[];
};
struct shm_box {
    sho_word header;
    sho_word words[];
};
#define SHM_NODE_BYTES(words) (16u + 8u * (words))

/* Objects that the proxies of a process keep alive: a chain from the process record. */
struct shm_pins {
    sho_word header;
    sho_word next;
    sho_word count; /* of ids[] */
    sho_word ids[]; /* 0: free */
};

/* Marks: words of 48 bits under the low 16 bits of the cycle. A box has one bit, a node two. */
#define SHM_MARK_WORDS 88u
#define SHM_MARK_BYTES (SHM_MARK_WORDS * 8u)
#define SHM_MARK_BITS 48u

/* Orec: version << 2, or slot << 48 | seq << 2 | 1. */
#define SHM_OREC_IS_LOCKED(o) ((o)&1)
#define SHM_OREC_LOCK(slot, seq) ((uint64_t)(slot) << 48 | ((seq)&SHM_SEQ_MASK) << 2 | 1)
#define SHM_OREC_SLOT(o) ((unsigned)((o) >> 48))
#define SHM_OREC_SEQ(o) ((o) >> 2 & SHM_SEQ_MASK)
#define SHM_VERSION_ONE 4ULL /* versions and the clock are kept shifted: one step */

/* An object's id: offset / 16 in 44 bits, low 20 bits of its birth. */
#define SHM_OID(off, birth) ((uint64_t)(off) >> 4 << 20 | ((birth)&0xfffff))
#define SHM_OID_OFF(oid) ((oid) >> 20 << 4)
#define SHM_OID_BIRTH(oid) ((uint32_t)((oid)&0xfffff))
/* Is a header that of the incarnation that an id names; of a living object, too? */
#define SHM_OID_FITS(oid, h) ((SHM_NODE_BIRTH(h) & 0xfffff) == SHM_OID_BIRTH(oid))
#define SHM_OID_LIVES(oid, h) (SHM_KIND_IS_OBJECT(SHM_HEADER_KIND(h)) && SHM_OID_FITS(oid, h))

#endif
