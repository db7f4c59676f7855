/*
 * commit.pml: locking, deciding, abort by others, death and recovery.
 *
 * Two writers, each with a session slot, and a visitor without one, which only wants to read. A writer runs operations,
 * each chosen freely: a full commit of both nodes, or a single write of node 0. Node 0 holds a box (an immutable block that
 * one cell owns), so that every write takes a box and frees another; node 1 holds the number of node 0's box at
 * the last full commit.
 *
 * Before each of its steps a writer may die (for ever, its byte free) or stop (for ever, its byte held); a step may
 * also just be late. Whoever meets a lock helps: aborts, gives back, recovers. The visitor outlives all, and
 * finishes what is left.
 *
 * truth[] is what the nodes hold by the decisions that were made: both words change in the step that decides.
 *
 *   atomicity     a node that is unlocked holds its truth, whoever unlocked it; nothing decided is lost
 *   no leftovers  at the end a node is locked only by one that stopped after deciding
 *   recovery      may be repeated from any step: no box is freed twice or while it is in use; a death loses one at most
 *   progress      nobody waits for ever, except for one that stopped after deciding: any other is an invalid end state
 *   names         a lock never names an attempt that its slot has left
 */
#ifndef OPS_A
#define OPS_A 2
#endif
#ifndef OPS_B
#define OPS_B 1
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef STOPS
#define STOPS 1
#endif
#define ROUNDS 2 /* of locking, in one operation */
#define NODES 2
#define WRITERS 2
#define VISITOR 2
#define BOXES 6
#define NONE 255

#define LOCK(s, q) (128 + (s) * 32 + (q))
#define IS_LOCK(o) ((o) >= 128)
#define SLOT(o) (((o) - 128) / 32)
#define SEQ(o) ((o) % 32)

#define IDLE 0
#define LOCKING 1
#define ABORTED 2
#define COMMITTED 3
#define SINGLE 4
#define FREE 5
#define STATE(q, p) ((q) * 8 + (p))
#define PHASE(st) ((st) % 8)

#define MAX(a, b) ((a) > (b) -> (a) : (b))

/* ------------------------------------------------------------------------------------------ shared memory */

byte clock;
byte orec[NODES];
byte word[NODES];
bool taken[BOXES];

/* A slot: its state word, the version of its commit, its log. */
byte state[WRITERS];
byte wv[WRITERS];
byte writes[WRITERS]; /* write records: of node 0, then 1 */
byte base[WRITERS * NODES];
byte shadow[WRITERS];       /* both nodes get the same word */
byte alloc[WRITERS] = NONE; /* box taken */
byte gone[WRITERS] = NONE;  /* box to free after the commit */

/* ------------------------------------------------------------------------------------------ the world */

byte truth[NODES];
byte deaths = DEATHS;
byte stops = STOPS;
bool dead[WRITERS];
bool stopped[WRITERS];
bool done[WRITERS];
bool recovered[WRITERS];
byte recoverer[WRITERS] = NONE; /* who holds the dead one's byte */

#define DECIDED(s) (PHASE(state[s]) == COMMITTED || PHASE(state[s]) == SINGLE)

/* One step of a writer, which it may not live to make. */
#define STEP(...)                                                                                  \
    if                                                                                             \
    :: atomic { __VA_ARGS__ }                                                                      \
    :: atomic {                                                                                    \
           me != VISITOR && deaths > 0 -> deaths--; dead[me] = true; let_go(); forget(); goto end      \
       }                                                                                           \
    :: atomic { me != VISITOR && stops > 0 && helping == NONE -> stops--; stopped[me] = true; forget(); goto end }  \
    fi

/* The kernel frees the bytes that the dead one held. */
inline let_go()
{
    if
    :: helping != NONE -> recoverer[helping] = NONE
    :: else
    fi
}

/* What a process knew does not matter any more. */
inline forget()
{
    seq = 0; st = 0; other = 0; seen = 0; version = 0; base0 = 0; old = 0; found = 0; held = 0; busy = 0; where = 0;
    rounds = 0; b = NONE; helping = NONE; ops = 0;
    pair = false; success = false; conflict = false; gave_up = false; was_decided = false
}

/* A lock becomes a version. */
#define UNLOCK(n, v) orec[n] = (v); assert(word[n] == truth[n])

#define FREE_BOX(b) assert(taken[b] && truth[0] != (b)); taken[b] = false

/* ------------------------------------------------------------------------------------------ both sides */

/* Frees what the log of slot s names: what was taken, or what was replaced. The record goes first. */
inline free_boxes(s, decided)
{
    if
    :: (decided) && gone[s] != NONE ->
#ifdef MUT_FREE_FIRST
       STEP(FREE_BOX(gone[s]));
       STEP(gone[s] = NONE)
#else
       STEP(b = gone[s]; gone[s] = NONE);
       STEP(FREE_BOX(b); b = NONE)
#endif
    :: !(decided) && alloc[s] != NONE ->
#ifdef MUT_FREE_FIRST
       STEP(FREE_BOX(alloc[s]));
       STEP(alloc[s] = NONE)
#else
       STEP(b = alloc[s]; alloc[s] = NONE);
       STEP(FREE_BOX(b); b = NONE)
#endif
    :: else
    fi
}

#define EMPTY_LOG(s)                                                                               \
    writes[s] = 0; alloc[s] = NONE; gone[s] = NONE; shadow[s] = 0; base[(s) * NODES] = 0; base[(s) * NODES + 1] = 0

/* After the decision, or its opposite. */
inline finish(s, decided, phase)
{
#ifdef MUT_IDLE_FIRST
    STEP(state[s] = STATE(state[s] / 8, phase));
    free_boxes(s, decided);
    STEP(EMPTY_LOG(s))
#else
    free_boxes(s, decided);
    STEP(EMPTY_LOG(s));
    STEP(state[s] = STATE(state[s] / 8, phase))
#endif
}

/* Stores the shadow of node n, if it still carries the lock, and unlocks it. */
inline apply(s, n, lock)
{
#ifdef MUT_APPLY_BLIND
    STEP(word[n] = shadow[s]);
    STEP(UNLOCK(n, wv[s]))
#else
    if
    :: orec[n] == lock ->
#ifdef MUT_UNLOCK_FIRST
       STEP(UNLOCK(n, wv[s]));
       STEP(word[n] = shadow[s])
#else
       STEP(word[n] = shadow[s]);
       STEP(assert(wv[s] > base[(s) * NODES + n]); UNLOCK(n, wv[s]))
#endif
    :: else
    fi
#endif
}

/* Gives node n back to its base, if it still carries the lock. */
inline release(s, n, lock)
{
#ifdef MUT_RELEASE_BLIND
    STEP(UNLOCK(n, base[(s) * NODES + n]))
#else
    STEP(
        if
        :: orec[n] == lock -> UNLOCK(n, base[(s) * NODES + n])
        :: else
        fi
    )
#endif
}

inline apply_all(s, lock)
{
    if
    :: writes[s] > 0 -> apply(s, 0, lock)
    :: else
    fi;
    if
    :: writes[s] > 1 -> apply(s, 1, lock)
    :: else
    fi
}

inline release_all(s, lock)
{
    if
    :: writes[s] > 0 -> release(s, 0, lock)
    :: else
    fi;
    if
    :: writes[s] > 1 -> release(s, 1, lock)
    :: else
    fi
}

/* ------------------------------------------------------------------------------------------ helping */

/* The caller has taken the dead one's byte. */
inline recover(s)
{
    st = state[s];
    was_decided = PHASE(st) == COMMITTED;
    if
    :: PHASE(st) == SINGLE ->
       if
       :: wv[s] != 0 -> was_decided = true
       :: else ->
          if
          :: writes[s] > 0 && orec[0] == LOCK(s, st / 8) ->
             was_decided = true;
#ifdef MUT_RECOVER_NO_MARK
             STEP(version = MAX(clock, base[s * NODES]) + 1);
             STEP(word[0] = shadow[s]);
             STEP(UNLOCK(0, version); version = 0)
#else
             STEP(wv[s] = MAX(clock, base[s * NODES]) + 1)
#endif
          :: else
          fi
       fi
    :: PHASE(st) == LOCKING ->
       STEP(
           if
           :: state[s] == st -> state[s] = STATE(st / 8, ABORTED)
           :: else
           fi
       )
    :: else
    fi;
    if
    :: PHASE(st) == IDLE
    :: PHASE(st) != IDLE && was_decided -> apply_all(s, LOCK(s, st / 8))
    :: PHASE(st) != IDLE && !was_decided -> release_all(s, LOCK(s, st / 8))
    fi;
    finish(s, was_decided, FREE);
    atomic { recovered[s] = true; recoverer[s] = NONE; helping = NONE; st = 0; was_decided = false }
}

#ifdef MUT_RECOVER_ALIVE
#define MAY_RECOVER(s) (!recovered[s] && !done[s] && recoverer[s] == NONE && (s) != me)
#elif defined(MUT_RECOVER_TOGETHER)
#define MAY_RECOVER(s) (dead[s] && !recovered[s])
#else
#define MAY_RECOVER(s) (dead[s] && !recovered[s] && recoverer[s] == NONE)
#endif

/* Comes back when node n does not carry lock any more; gave_up if its owner stopped after deciding. */
inline meet(n, lock)
{
    other = SLOT(lock);
    do
    :: orec[n] != lock -> break
    :: orec[n] == lock ->
       st = state[other];
       if
       :: st / 8 != SEQ(lock) ->
#ifndef MUT_HASTY
          if
          :: orec[n] != lock -> break
          :: else
          fi;
#endif
          assert(false) /* a lock names an attempt that its slot has left */
       :: else
       fi;
       if
       :: PHASE(st) == LOCKING ->
#ifdef MUT_WAIT_FOR_LOCKING
          if
          :: orec[n] != lock -> break
          :: MAY_RECOVER(other) -> recoverer[other] = me; helping = other; recover(other)
          fi
#else
          STEP(
              if
              :: state[other] == st -> state[other] = STATE(st / 8, ABORTED)
              :: else
              fi
          );
#ifdef MUT_ABORT_UNCHECKED
          release(other, n, lock)
#endif
#endif
       :: PHASE(st) == ABORTED ->
          /* The owner may be anywhere in its log: the base is the attempt's only if it is in it afterwards. */
          STEP(found = base[other * NODES + n]);
          if
#ifndef NO_SECOND_LOOK
          :: state[other] != st
          :: state[other] == st ->
#else
          :: true ->
#endif
             STEP(
                 if
                 :: orec[n] == lock -> UNLOCK(n, found)
                 :: else
                 fi
             )
          fi;
          found = 0
       :: PHASE(st) != LOCKING && PHASE(st) != ABORTED ->
          if
          :: orec[n] != lock -> break
          :: atomic { MAY_RECOVER(other) -> recoverer[other] = me; helping = other };
             recover(other)
          :: stopped[other] && DECIDED(other) && orec[n] == lock -> gave_up = true; break
          fi
       fi
    od;
    atomic { st = 0; other = 0 }
}

/* ------------------------------------------------------------------------------------------ writing */

/* Reads node n, when it is unlocked. */
inline gather(n)
{
    do
    :: atomic {
           seen = orec[n];
           if
           :: !IS_LOCK(seen) -> version = seen
           :: else
           fi
       };
       if
       :: !IS_LOCK(seen) -> break
       :: else -> meet(n, seen); if :: gave_up -> break :: else fi
       fi
    od;
    seen = 0
}

inline log_operation()
{
    gather(0);
    if
    :: !gave_up -> STEP(base0 = version; old = word[0])
    :: else
    fi;
    if
    :: !gave_up && pair -> gather(1)
    :: else
    fi;
    if
    :: gave_up
    :: !gave_up ->
       STEP(
           b = 0;
           do
           :: taken[b] -> b++
           :: else -> break
           od;
           taken[b] = true
       );
       STEP(alloc[me] = b);
       STEP(
           gone[me] = old;
           shadow[me] = b;
           base[me * NODES] = base0;
           if
           :: pair -> base[me * NODES + 1] = version; writes[me] = 2
           :: else -> writes[me] = 1
           fi;
           b = NONE; version = 0; base0 = 0
       )
    fi
}

/* Takes node n's lock. busy: the lock that is in the way; conflict: the node has changed. */
inline lock_node(n)
{
    STEP(
        if
        :: orec[n] == base[me * NODES + n] -> orec[n] = LOCK(me, seq); held++
        :: IS_LOCK(orec[n]) -> busy = orec[n]; where = n
        :: else -> conflict = true
        fi
    )
}

#ifdef MUT_OLD_SEQ
#define NEXT_SEQ seq = 1
#else
#define NEXT_SEQ seq++
#endif

inline commit_full()
{
    rounds = 0;
    do
    :: rounds < ROUNDS && !success && !conflict && !gave_up ->
       rounds++;
       NEXT_SEQ;
       STEP(wv[me] = 0);
       STEP(state[me] = STATE(seq, LOCKING));
       held = 0;
       lock_node(0);
       if
       :: held == 1 -> lock_node(1)
       :: else
       fi;
       if
       :: held == 2 ->
          STEP(version = MAX(clock, MAX(base[me * NODES], base[me * NODES + 1])) + 1; clock = version);
#ifndef MUT_WV_LATE
          STEP(wv[me] = version);
#endif
          STEP(
              if
#ifdef MUT_DECIDE_BLIND
              :: true ->
#else
              :: state[me] == STATE(seq, LOCKING) ->
#endif
                 state[me] = STATE(seq, COMMITTED);
                 assert(truth[0] == old); /* no lost update */
                 truth[0] = shadow[me];
                 truth[1] = shadow[me];
                 success = true
              :: else
              fi
          );
#ifdef MUT_WV_LATE
          STEP(wv[me] = version);
#endif
          version = 0
       :: else
       fi;
       if
       :: success -> apply_all(me, LOCK(me, seq)); finish(me, true, IDLE)
       :: else ->
#ifdef MUT_LEAVE_EARLY
          if
          :: held == 2
          :: held == 1 -> release(me, 0, LOCK(me, seq))
          :: held == 0
          fi;
#else
          if
          :: held > 0 -> release(me, 0, LOCK(me, seq))
          :: else
          fi;
          if
          :: held > 1 -> release(me, 1, LOCK(me, seq))
          :: else
          fi;
#endif
          STEP(state[me] = STATE(seq, IDLE));
          if
          :: busy != 0 -> meet(where, busy); busy = 0; where = 0
          :: else
          fi
       fi
    :: else -> break
    od;
    if
    :: !success -> finish(me, false, IDLE)
    :: else
    fi
}

inline commit_single()
{
    NEXT_SEQ;
#ifndef MUT_WV_STALE
    STEP(wv[me] = 0);
#endif
    STEP(state[me] = STATE(seq, SINGLE));
    STEP(
        if
        :: orec[0] == base[me * NODES] ->
           orec[0] = LOCK(me, seq);
           assert(truth[0] == old);
           truth[0] = shadow[me];
           success = true
        :: else
        fi
    );
    if
    :: success ->
#ifdef MUT_NO_MARK
       STEP(version = MAX(clock, base[me * NODES]) + 1);
       STEP(word[0] = shadow[me]);
       STEP(UNLOCK(0, version); version = 0);
#else
       STEP(version = MAX(clock, base[me * NODES]) + 1);
       STEP(wv[me] = version; version = 0);
       apply(me, 0, LOCK(me, seq));
#endif
       finish(me, true, IDLE)
    :: else ->
       STEP(state[me] = STATE(seq, IDLE));
       finish(me, false, IDLE)
    fi
}

/* ------------------------------------------------------------------------------------------ the visitor */

/* Waits until node n is unlocked, or is locked by one that stopped after deciding. */
inline visit(n)
{
    gave_up = false;
    gather(n);
    version = 0
}

inline recover_if_dead(s)
{
    if
    :: dead[s] && !recovered[s] ->
       atomic { recoverer[s] == NONE -> recoverer[s] = me; helping = s };
       recover(s)
    :: else
    fi
}

inline check_end()
{
    d_step {
        b = 0;
        i = 0;
        do
        :: i < BOXES -> b = b + taken[i]; i++
        :: else -> break
        od;
        i = 0;
        do
        :: i < NODES ->
           if
           :: IS_LOCK(orec[i]) -> assert(stopped[SLOT(orec[i])] && DECIDED(SLOT(orec[i])))
           :: else -> assert(word[i] == truth[i])
           fi;
           i++
        :: else -> break
        od;
        assert(taken[truth[0]]);
        /* Each death loses one box at most; those of a stopped one's log are still taken. */
        assert(b <= 1 + (DEATHS - deaths) + 2 * (STOPS - stops));
        i = 0
    }
}

proctype participant(byte me; byte ops)
{
    byte seq, st, other, seen, version, base0, old, found, held, busy, where, rounds, i;
    byte b = NONE;
    byte helping = NONE; /* the dead one that it recovers */
    bool pair, success, conflict, gave_up, was_decided;

    do
    :: ops > 0 ->
       atomic {
           ops--;
           if
           :: pair = true
           :: pair = false
           fi
       };
       log_operation();
       if
       :: gave_up
       :: !gave_up && pair -> commit_full()
       :: !gave_up && !pair -> commit_single()
       fi;
       atomic { pair = false; success = false; conflict = false; gave_up = false; old = 0; held = 0; rounds = 0 }
    :: else -> break
    od;
    if
    :: me != VISITOR -> atomic { done[me] = true; forget() }
    :: else ->
#ifdef EARLY
       visit(0);
       visit(1);
#endif
       (done[0] || dead[0] || stopped[0]) && (done[1] || dead[1] || stopped[1]);
       recover_if_dead(0);
       recover_if_dead(1);
       visit(0);
       visit(1);
       check_end()
    fi;
end:
    skip
}

init
{
    atomic {
        taken[0] = true;
        run participant(0, OPS_A);
        run participant(1, OPS_B);
        run participant(VISITOR, 0)
    }
}
