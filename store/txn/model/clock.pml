/*
 * clock.pml: versions and the clock. Which snapshots do readers accept, and is there one serial order of all?
 *
 * Every process runs OPS operations, each chosen freely:
 *
 *   transaction   reads all nodes in any rotation, extending its snapshot where it must, and writes any subset of them
 *   single write  reads one node and writes it: one lock, no tick of the clock
 *   single read   reads all nodes and looks at their orecs again, without a snapshot
 *   operation     reads like that, then commits writes to any subset like a transaction
 *
 * A node's word counts its writes, so a word names the write that made it. Every operation notes what it saw, also one
 * that is going to abort, and which operations had ended when it began. When all have ended, "came before" must
 * have no cycle over
 *
 *   u ended before t began      u wrote what t saw      t saw what u replaced
 *
 * This is strict serializability of what committed, and opacity: what aborted fits into the same order. Two writes of
 * the same word (a lost update) fail where they happen.
 *
 * A third process only reads or makes a single write: with two that do everything it is the one that would see a torn
 * order, and the states stay countable. COARSE makes a whole node's read, and its store with the unlock, one step: the finer
 * steps are checked with two processes.
 *
 * An access to shared memory is one step. Waiting for a lock is a guard: nobody stops or dies here (commit.pml).
 */
#ifndef PROCS
#define PROCS 3
#endif
#ifndef NODES
#define NODES 2
#endif
#ifndef OPS
#define OPS 1 /* of each process */
#endif
#ifndef EXTRA
#define EXTRA 0 /* process 0 runs so many more */
#endif
#ifndef AHEAD
#define AHEAD 2 /* node 0 begins so many versions above the clock: single writes have been at it */
#endif

#define TXNS (PROCS * OPS + EXTRA)
#define WORDS (TXNS + 1)
#define LOCKED 128 /* | process: a lock; below: a version */
#define ALL ((1 << NODES) - 1)
#define BIT(i) (1 << (i))
#define MAX(a, b) ((a) > (b) -> (a) : (b))

/* What an operation does, as a number. */
#define SETS (1 << NODES)
#define KINDS_TXN (NODES * SETS)       /* transactions: first node read, set of nodes written */
#define KINDS_OP (KINDS_TXN + SETS)    /* operations: set of nodes written */
#define KINDS (KINDS_OP + NODES)       /* single writes: the node */

byte clock;
byte orec[NODES];
byte word[NODES];

/* The history. */
byte saw[TXNS * NODES];     /* word + 1; 0: nothing */
byte writer[NODES * WORDS]; /* operation + 1 that wrote this word */
byte before[TXNS];          /* set of operations that had ended when this one began */
byte ended;                 /* set of operations */
byte live = PROCS;

#define NOTE(n, w) saw[t * NODES + (n)] = (w) + 1

/* An operation begins with its first access; one that restarts begins anew. */
inline begin()
{
    before[t] = ended
}

inline store(n, w)
{
    atomic {
        assert(writer[(n) * WORDS + (w)] == 0); /* no lost update */
        writer[(n) * WORDS + (w)] = t + 1;
        word[n] = w;
    }
}

/* ------------------------------------------------------------------------------------------ transactions */

#ifdef MUT_LOCKED_IS_VALID
#define UNCHANGED(n) (orec[n] == version[n] || orec[n] >= LOCKED)
#else
#define UNCHANGED(n) (orec[n] == version[n])
#endif

/* Sets ok: is every node in mask as it was read? */
inline validate(mask)
{
    i = 0;
    do
    :: atomic { i < NODES && ok && !((mask) & BIT(i)) -> i++ }
    :: atomic { i < NODES && ok && ((mask) & BIT(i)) -> ok = UNCHANGED(i); i++ }
    :: atomic { i == NODES || !ok -> i = 0; break }
    od
}

inline extend()
{
#ifdef MUT_NO_RAISE
    rv = v;
    validate(have);
#else
    atomic { clock = MAX(clock, v) };
#ifdef MUT_EXTEND_CLOCK_LATE
    validate(have);
    rv = clock;
#else
    rv = clock;
#ifndef MUT_EXTEND_BLIND
    validate(have);
#endif
#endif
#endif
    assert(rv <= clock)
}

#ifdef MUT_READ_LOCKED
#define READABLE(n) true
#else
#define READABLE(n) (orec[n] < LOCKED)
#endif
#ifdef MUT_NO_EXTEND
#define TOO_NEW(v) false
#else
#define TOO_NEW(v) ((v) > rv && (v) < LOCKED)
#endif

#define ACCEPT(n) version[n] = v; NOTE(n, seen); have = have | BIT(n)

inline read(n)
{
    do
#ifdef COARSE
    :: atomic { orec[n] < LOCKED && !TOO_NEW(orec[n]) -> v = orec[n]; seen = word[n]; ACCEPT(n); break }
    :: atomic { orec[n] < LOCKED && TOO_NEW(orec[n]) -> v = orec[n] };
       extend();
       if
       :: atomic { ok && orec[n] == v -> seen = word[n]; ACCEPT(n); break }
       :: ok && orec[n] != v
       :: !ok -> break
       fi
#else
    :: atomic { READABLE(n) -> v = orec[n] };
#ifdef MUT_EXTEND_AFTER_WORDS
       seen = word[n];
       if
       :: orec[n] == v ->
          if
          :: TOO_NEW(v) -> extend()
          :: else
          fi;
          if
          :: ok -> atomic { ACCEPT(n) }
          :: else
          fi;
          break
       :: else
       fi
#else
       if
       :: TOO_NEW(v) -> extend()
       :: else
       fi;
       if
       :: ok
       :: !ok -> break
       fi;
       seen = word[n];
#ifdef MUT_READ_ONCE
       atomic { ACCEPT(n) };
       break
#else
       if
       :: atomic { orec[n] == v -> ACCEPT(n); break }
       :: else
       fi
#endif
#endif
#endif
    od
}

inline draw_version()
{
    atomic { clock++; wv = clock };
#ifndef MUT_WV_NO_BASE
    if
    :: atomic { wv <= base -> wv = base + 1; clock = MAX(clock, wv) }
    :: else
    fi
#endif
}

inline lock_all()
{
    i = 0;
    do
    :: atomic { i < NODES && ok && !(writes & BIT(i)) -> i++ }
    :: atomic {
           i < NODES && ok && (writes & BIT(i)) ->
           if
           :: orec[i] == version[i] -> orec[i] = LOCKED + _pid; locks = locks | BIT(i)
           :: else -> ok = false
           fi;
           i++
       }
    :: atomic { i == NODES || !ok -> i = 0; break }
    od
}

inline unlock_all()
{
    i = 0;
    do
    :: atomic { i < NODES && !(locks & BIT(i)) -> i++ }
    :: atomic { i < NODES && (locks & BIT(i)) && !ok -> orec[i] = version[i]; i++ }
    :: i < NODES && (locks & BIT(i)) && ok ->
#ifdef COARSE
       atomic { store(i, saw[t * NODES + i]); orec[i] = wv };
#elif defined(MUT_UNLOCK_FIRST)
       orec[i] = wv;
       store(i, saw[t * NODES + i]);
#else
       store(i, saw[t * NODES + i]); /* what it saw, plus 1 */
       orec[i] = wv;
#endif
       i++
    :: atomic { i == NODES -> i = 0; break }
    od
}

#ifdef MUT_SHORTCUT
#define NEEDS_VALIDATION (wv != rv + 1 || kind >= KINDS_TXN)
#else
#define NEEDS_VALIDATION true
#endif

inline commit()
{
    d_step {
        i = 0;
        do
        :: i < NODES && (writes & BIT(i)) -> base = MAX(base, version[i]); i++
        :: i < NODES && !(writes & BIT(i)) -> i++
        :: i == NODES -> break
        od;
        i = 0
    };
#ifdef MUT_WV_BEFORE_LOCKS
    draw_version();
    lock_all();
#else
    lock_all();
    if
    :: ok -> draw_version()
    :: else
    fi;
#endif
    if
#ifdef MUT_NO_VALIDATION
    :: true
#else
    :: ok && NEEDS_VALIDATION -> validate(have & ~writes)
    :: else
#endif
    fi;
    unlock_all()
}

inline transaction()
{
    k = 0;
    do
    :: k < NODES && ok -> read((first + k) % NODES); k++
    :: else -> break
    od;
    if
    :: ok && writes != 0 -> commit()
    :: else
    fi
}

/* ------------------------------------------------------------------------------------------ single operations */

inline single_write(n)
{
    do
#ifdef COARSE
    :: atomic { orec[n] < LOCKED -> begin(); v = orec[n]; seen = word[n] };
       if
       :: true ->
#else
    :: atomic { orec[n] < LOCKED -> begin(); v = orec[n] };
       seen = word[n];
       if
       :: orec[n] == v -> /* the operation's check; here its path is the node itself */
#endif
#ifdef MUT_SINGLE_CLOCK_EARLY
          wv = clock;
#endif
          if
          :: atomic { orec[n] == v -> orec[n] = LOCKED + _pid; break }
          :: else
          fi
#ifndef COARSE
       :: else
#endif
       fi
    od;
#ifdef MUT_SINGLE_CLOCK_CACHED
    wv = cached;
#elif !defined(MUT_SINGLE_CLOCK_EARLY)
    wv = clock;
#endif
#ifdef MUT_SINGLE_NO_BASE
    wv = wv + 1;
#else
    wv = MAX(wv, v) + 1;
#endif
    NOTE(n, seen);
#ifdef COARSE
    atomic { store(n, seen + 1); orec[n] = wv }
#else
    store(n, seen + 1);
    orec[n] = wv
#endif
}

inline operation()
{
    do
    :: k = 0;
       do
       :: k < NODES ->
          atomic {
              orec[k] < LOCKED ->
              if
              :: k == 0 -> begin()
              :: else
              fi;
              version[k] = orec[k]
#ifndef COARSE
          };
          atomic {
#endif
              words[k] = word[k];
              k++
          }
       :: else -> break
       od;
#ifdef MUT_CHECK_LAST_ONLY
       have = BIT(NODES - 1);
#else
       have = ALL;
#endif
       validate(have);
       if
       :: ok -> break
       :: else -> ok = true
       fi
    od;
    atomic {
        i = 0;
        do
        :: i < NODES -> NOTE(i, words[i]); i++
        :: else -> break
        od;
        i = 0
    };
    if
    :: writes != 0 -> commit()
    :: else
    fi
}

/* ------------------------------------------------------------------------------------------ the history */

/* Takes away, again and again, an operation that nothing left came before. If none can go, there is a cycle. */
inline check_history()
{
    d_step {
        left = (1 << TXNS) - 1;
        do
        :: left != 0 ->
           gone = false;
           t = 0;
           do
           :: t < TXNS && (!(left & BIT(t)) || gone) -> t++
           :: t < TXNS && (left & BIT(t)) && !gone ->
              earlier = before[t];
              i = 0;
              do
              :: i < NODES ->
                 k = saw[t * NODES + i];
                 if
                 :: k > 1 && writer[i * WORDS + k - 1] != 0 -> /* k - 1 is the word it saw */
                    earlier = earlier | BIT(writer[i * WORDS + k - 1] - 1)
                 :: else
                 fi;
                 /* Those that saw what t replaced come before t. */
                 u = 0;
                 do
                 :: u < TXNS ->
                    k = saw[u * NODES + i];
                    if
                    :: u != t && k != 0 && k < WORDS && writer[i * WORDS + k] == t + 1 -> earlier = earlier | BIT(u)
                    :: else
                    fi;
                    u++
                 :: else -> break
                 od;
                 i++
              :: else -> break
              od;
              if
              :: (earlier & left & ~BIT(t)) == 0 -> left = left & ~BIT(t); gone = true
              :: else
              fi;
              t++
           :: t == TXNS -> break
           od;
           assert(gone); /* one serial order of all */
           left = (gone -> left : 0) /* ends a simulation, which goes on */
        :: else -> break
        od;
        t = 0
    }
}

inline run_one()
{
    atomic {
        ok = true;
        if
        :: kind < KINDS_TXN -> first = kind / SETS; writes = kind % SETS; begin(); rv = clock
        :: kind >= KINDS_TXN && kind < KINDS_OP -> writes = kind % SETS
        :: kind >= KINDS_OP -> first = kind - KINDS_OP
        fi
    };
    if
    :: kind < KINDS_TXN -> transaction()
    :: kind >= KINDS_TXN && kind < KINDS_OP -> operation()
    :: kind >= KINDS_OP -> single_write(first)
    fi;
    atomic {
        ended = ended | BIT(t);
        kind = 0; first = 0; writes = 0; ok = false;
        v = 0; rv = 0; wv = 0; base = 0; seen = 0; have = 0; locks = 0; i = 0; k = 0;
        version[0] = 0; version[1] = 0; words[0] = 0; words[1] = 0;
#if NODES == 3
        version[2] = 0; words[2] = 0;
#endif
    }
}

/* kind: of the first operation; the others' are chosen freely. */
proctype process(byte t; byte count; byte kind)
{
    byte first, writes;
    bool ok;
    byte v, rv, wv, base, seen, have, locks, i, k;
    byte version[NODES];
    byte words[NODES];
    byte left, earlier, u;
    bool gone;
#ifdef MUT_SINGLE_CLOCK_CACHED
    byte cached = clock;
#endif

    do
    :: run_one();
       atomic {
           count--;
           t++;
           if
           :: count > 0 -> select(kind : 0..(KINDS - 1))
           :: else -> t = 0; break
           fi
       }
    od;
    atomic {
        live--;
        if
        :: live == 0 -> check_history()
        :: else
        fi
    }
}

#define LIGHT(kind) ((kind) == 0 || (kind) == SETS || (kind) == KINDS_TXN || (kind) >= KINDS_OP)

/* The first two are alike if both run as many operations: their first kinds may as well rise. */
init
{
    byte p, t0, kind;

    atomic {
        orec[0] = AHEAD;
        do
        :: p < PROCS ->
           if
           :: p == 1 && EXTRA == 0
           :: else -> kind = 0
           fi;
           do
           :: kind < KINDS - 1 -> kind++
           :: p < 2 || LIGHT(kind) -> break
           od;
           if
           :: p == 0 -> run process(t0, OPS + EXTRA, kind); t0 = t0 + OPS + EXTRA
           :: else -> run process(t0, OPS, kind); t0 = t0 + OPS
           fi;
           p++
        :: else -> p = 0; t0 = 0; kind = 0; break
        od
    }
}
