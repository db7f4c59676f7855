/*
 * commit.pml: locking, deciding, abort by others, death and recovery.
 *
 * Two writers, each with a session slot, and a visitor without one. A writer runs operations, each chosen freely: a
 * full commit of both nodes, or a single write of node 0. Node 0 holds a box (an immutable block that one cell owns), so that
 * every write takes a box and frees another; node 1 holds the number of node 0's box at the last full commit.
 *
 * Before each of its steps a writer may die (for ever, its byte free) or stop (for ever, its byte held); a step may
 * also just be late. Whoever meets a lock helps: aborts, gives back, recovers. The visitor outlives all, looks at both
 * nodes when the writers have come to their ends (with EARLY: at any time, too) and finishes what is left.
 *
 * truth[] is what the nodes hold by the decisions that were made: the step that decides changes it.
 *
 *   atomicity     whoever unlocks a node leaves its truth in it; nothing decided is lost, and nothing is overwritten unseen
 *   no leftovers  at the end a node is locked only by one that stopped after deciding
 *   recovery      may be repeated from any step; no box is freed twice or in use; a death loses one box at most
 *   progress      nobody waits for ever, except for one that stopped after deciding: any other is an invalid end state
 *   names         a lock never names an attempt that its slot has left
 *
 * A single write is decided by its lock; with WV_DECIDES by the version that it logs, and a dead one without is given back.
 *
 * A participant is a table of steps: `at` says which comes next, and each looks at shared memory once. Death and
 * stop are two more entries of the table.
 */
#ifndef OPS_A
#define OPS_A 1
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
#define MAX(a, b) ((a) > (b) -> (a) : (b))

/* ------------------------------------------------------------------------------------------ shared memory */

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

#define BASE(s, n) base[(s) * NODES + (n)]
#define CURRENT(s) LOCK(s, state[s] / 8) /* the lock of the slot's attempt */

/* ------------------------------------------------------------------------------------------ the world */

byte truth[NODES];
byte deaths = DEATHS;
byte stops = STOPS;
bool dead[WRITERS];
bool stopped[WRITERS];
bool done[WRITERS];
bool recovered[WRITERS];
byte recoverer[WRITERS] = NONE; /* who holds the dead one's byte */

#define AT_END(s) (done[s] || dead[s] || stopped[s])
#define STUCK(s) (stopped[s] && (PHASE(state[s]) == COMMITTED || PHASE(state[s]) == SINGLE))

#ifdef MUT_RECOVER_ALIVE
#define MAY_RECOVER(s) (!recovered[s] && recoverer[s] == NONE)
#elif defined(MUT_RECOVER_TOGETHER)
#define MAY_RECOVER(s) (dead[s] && !recovered[s])
#else
#define MAY_RECOVER(s) (dead[s] && !recovered[s] && recoverer[s] == NONE)
#endif

mtype = {
    CHOOSE, GATHER, TAKE, NAME, RECORD,                                /* an operation fills its log */
    CLEAR, ANNOUNCE, ACQUIRE, DRAW, MARK, DECIDE, BACK, IDLING, AGAIN, /* commits */
    APPLY, STORE, UNLOCK, RELEASE,                                     /* a slot is settled, by its owner or recoverer */
    WIPE, DISCARD, EMPTY, LEAVE,
    MEET, LOOK, LEFT, ABORT, FIND, SECOND_LOOK, SWAP, WAIT,            /* somebody else's lock */
    RECOVER, R_ABORT, R_MARK, R_STORE, R_UNLOCK,                       /* somebody else's death */
    VISIT, GATHERING, SWEEP, LAST, OVER
}

/* A lock becomes a version. */
inline unlock(node, v)
{
    orec[node] = v;
    assert(word[node] == truth[node])
}

inline decide_word(node)
{
    truth[node] = shadow[me]
}

inline decide_single()
{
    assert(truth[0] == old);
    decided = true;
    decide_word(0)
}

inline discard(box)
{
    assert(taken[box] && truth[0] != box);
    taken[box] = false
}

/* The log of slot s: what is to be freed by its outcome. */
#define DUE(s) (decided -> gone[s] : alloc[s])

inline wipe()
{
    if
    :: decided -> gone[s] = NONE
    :: else -> alloc[s] = NONE
    fi
}

inline empty_log()
{
    writes[s] = 0;
    alloc[s] = NONE;
    gone[s] = NONE;
    shadow[s] = 0;
    BASE(s, 0) = 0;
    BASE(s, 1) = 0
}

/* The order in which a slot is left. */
#ifdef MUT_IDLE_FIRST
#define FIRST_TO_LEAVE LEAVE
#else
#define FIRST_TO_LEAVE WIPE
#endif

/* Meets `lock` on `node`; goes on at `then`. */
inline meet(node, then)
{
    target = node;
    lock = orec[node];
    resume = then;
    at = MEET
}

inline operation_over()
{
    pair = false;
    rounds = 0;
    held = 0;
    busy = NONE;
    gave_up = false;
    conflict = false;
    decided = false;
    old = 0;
    n = 0;
    s = 0;
    version = 0;
    at = CHOOSE
}

inline recovery_over()
{
    recovered[s] = true;
    recoverer[s] = NONE;
    helping = NONE;
    s = 0;
    n = 0;
    st = 0;
    decided = false;
    if
    :: resume == SWEEP -> at = SWEEP
    :: else -> at = MEET
    fi
}

inline forget()
{
    ops = 0; n = 0; s = 0; rounds = 0; held = 0; busy = NONE; version = 0; ver0 = 0; old = 0; b = NONE;
    target = 0; lock = 0; st = 0; found = 0; helping = NONE;
    pair = false; decided = false; gave_up = false; conflict = false; resume = CHOOSE; at = OVER
}

inline check_end()
{
    n = 0;
    b = 0;
    do
    :: n < BOXES -> b = b + taken[n]; n++
    :: else -> break
    od;
    n = 0;
    do
    :: n < NODES ->
       if
       :: IS_LOCK(orec[n]) -> assert(STUCK(SLOT(orec[n])))
       :: else -> assert(word[n] == truth[n])
       fi;
       n++
    :: else -> break
    od;
    assert(taken[truth[0]]);
    /* Those in a stopped one's log are still taken. */
    assert(b <= 1 + (DEATHS - deaths) + 2 * (STOPS - stops))
}

proctype participant(byte me; byte ops)
{
    mtype at = CHOOSE;
    mtype resume = CHOOSE;
    byte n, s, rounds, held, version, ver0, old, target, lock, st, found;
    byte busy = NONE; /* the node that somebody else holds */
    byte b = NONE;
    byte helping = NONE; /* the dead one that it recovers */
    bool pair, decided, gave_up, conflict, swept;

    do
    /* ---------------------------------------------------------------- an operation fills its log */
    :: atomic {
           at == CHOOSE ->
           if
           :: ops > 0 -> ops--; pair = true; at = GATHER
           :: ops > 0 -> ops--; pair = false; at = GATHER
           :: ops == 0 && me == VISITOR -> at = VISIT
           :: ops == 0 && me != VISITOR -> done[me] = true; forget()
           fi
       }
    :: atomic {
           at == GATHER ->
           if
           :: gave_up -> operation_over()
           :: !gave_up && IS_LOCK(orec[n]) -> meet(n, GATHER)
           :: !gave_up && !IS_LOCK(orec[n]) && n == 0 ->
              ver0 = orec[0];
              old = word[0];
              n = pair;
              at = (pair -> GATHER : TAKE)
           :: !gave_up && !IS_LOCK(orec[n]) && n == 1 -> version = orec[1]; n = 0; at = TAKE
           fi
       }
    :: atomic {
           at == TAKE ->
           b = 0;
           do
           :: taken[b] -> b++
           :: else -> break
           od;
           taken[b] = true;
           at = NAME
       }
    :: atomic { at == NAME -> alloc[me] = b; at = RECORD }
    :: atomic {
           at == RECORD ->
           gone[me] = old;
           shadow[me] = b;
           BASE(me, 0) = ver0;
           BASE(me, 1) = version;
           writes[me] = 1 + pair;
           b = NONE;
           version = 0;
           ver0 = 0;
           at = CLEAR
       }
    /* ---------------------------------------------------------------- commits */
    :: atomic {
           at == CLEAR ->
           rounds++;
#ifdef MUT_WV_STALE
           if
           :: pair -> wv[me] = 0
           :: else
           fi;
#else
           wv[me] = 0;
#endif
           at = ANNOUNCE
       }
    :: atomic {
           at == ANNOUNCE ->
#ifdef MUT_OLD_SEQ
           state[me] = STATE(1, (pair -> LOCKING : SINGLE));
#else
           state[me] = STATE(state[me] / 8 + 1, (pair -> LOCKING : SINGLE));
#endif
           at = ACQUIRE
       }
    :: atomic {
           at == ACQUIRE -> /* node `held` */
           if
           :: orec[held] == BASE(me, held) ->
              orec[held] = CURRENT(me);
              held++;
              if
              :: !pair ->
#ifndef WV_DECIDES
                 decide_single();
#endif
                 at = DRAW
              :: pair && held == NODES -> at = DRAW
              :: else
              fi
           :: orec[held] != BASE(me, held) && IS_LOCK(orec[held]) && pair -> busy = held; lock = orec[held]; at = BACK
           :: else -> conflict = true; at = BACK
           fi
       }
    :: atomic {
           at == DRAW ->
           version = MAX(clock, MAX(BASE(me, 0), BASE(me, 1))) + 1;
           if
           :: pair -> clock = version
           :: else
           fi;
#ifdef MUT_WV_LATE
           at = (pair -> DECIDE : MARK)
#elif defined(MUT_NO_MARK)
           at = (pair -> MARK : R_STORE);
           s = me
#else
           at = MARK
#endif
       }
    :: atomic {
           at == MARK ->
           wv[me] = version;
           version = 0;
#ifdef WV_DECIDES
           if
           :: !pair -> decide_single()
           :: else
           fi;
#endif
           if
           :: decided -> s = me; at = APPLY
           :: else -> at = DECIDE
           fi
       }
    :: atomic {
           at == DECIDE ->
           if
#ifdef MUT_DECIDE_BLIND
           :: true ->
#else
           :: state[me] == STATE(state[me] / 8, LOCKING) ->
#endif
              state[me] = STATE(state[me] / 8, COMMITTED);
              assert(truth[0] == old);
              decided = true;
              decide_word(0);
              decide_word(1);
#ifdef MUT_WV_LATE
              at = MARK
#else
              s = me;
              at = APPLY
#endif
#ifndef MUT_DECIDE_BLIND
           :: else -> at = BACK
#endif
           fi
       }
    :: atomic {
           at == BACK ->
           if
#ifdef MUT_LEAVE_EARLY
           :: held == NODES -> held = 0
#endif
           :: held > 0 ->
              held--;
              if
#ifdef MUT_RELEASE_BLIND
              :: true -> unlock(held, BASE(me, held))
#else
              :: orec[held] == CURRENT(me) -> unlock(held, BASE(me, held))
              :: else
#endif
              fi
           :: held == 0 -> at = IDLING
           fi
       }
    :: atomic {
           at == IDLING ->
           state[me] = STATE(state[me] / 8, IDLE);
           if
           :: busy != NONE -> target = busy; busy = NONE; resume = AGAIN; at = MEET
           :: else -> at = AGAIN
           fi
       }
    :: atomic {
           at == AGAIN ->
           version = 0;
           n = 0;
           if
           :: rounds < ROUNDS && !conflict && !gave_up -> at = CLEAR
           :: else -> s = me; at = FIRST_TO_LEAVE
           fi
       }
    /* ---------------------------------------------------------------- a slot is settled */
    :: atomic {
           at == APPLY ->
           if
           :: n == writes[s] -> n = 0; at = FIRST_TO_LEAVE
#ifdef MUT_APPLY_BLIND
           :: n < writes[s] -> at = STORE
#else
           :: n < writes[s] && orec[n] == CURRENT(s) ->
#ifdef MUT_UNLOCK_FIRST
              at = UNLOCK
#else
              at = STORE
#endif
           :: n < writes[s] && orec[n] != CURRENT(s) -> n++
#endif
           fi
       }
    :: atomic {
           at == STORE ->
           word[n] = shadow[s];
#ifdef MUT_UNLOCK_FIRST
           n++;
           at = APPLY
#else
           at = UNLOCK
#endif
       }
    :: atomic {
           at == UNLOCK ->
           assert(wv[s] > BASE(s, n));
           unlock(n, wv[s]);
#ifdef MUT_UNLOCK_FIRST
           at = STORE
#else
           n++;
           at = APPLY
#endif
       }
    :: atomic {
           at == RELEASE ->
           if
           :: n == writes[s] -> n = 0; at = FIRST_TO_LEAVE
           :: n < writes[s] ->
              if
              :: orec[n] == CURRENT(s) -> unlock(n, BASE(s, n))
              :: else
              fi;
              n++
           fi
       }
    :: atomic {
           at == WIPE ->
           b = DUE(s);
           if
           :: b == NONE -> at = EMPTY
           :: else ->
#ifndef MUT_FREE_FIRST
              wipe();
#endif
              at = DISCARD
           fi
       }
    :: atomic {
           at == DISCARD ->
#ifdef MUT_FREE_FIRST
           if
           :: b != NONE -> discard(b); b = NONE
           :: else -> wipe(); at = EMPTY
           fi
#else
           discard(b);
           b = NONE;
           at = EMPTY
#endif
       }
    :: atomic {
           at == EMPTY ->
           empty_log();
#ifdef MUT_IDLE_FIRST
           if
           :: s == me -> operation_over()
           :: else -> recovery_over()
           fi
#else
           at = LEAVE
#endif
       }
    :: atomic {
           at == LEAVE ->
           state[s] = STATE(state[s] / 8, (s == me -> IDLE : FREE));
#ifdef MUT_IDLE_FIRST
           at = WIPE
#else
           if
           :: s == me -> operation_over()
           :: else -> recovery_over()
           fi
#endif
       }
    /* ---------------------------------------------------------------- somebody else's lock */
    :: atomic {
           at == MEET ->
           if
           :: orec[target] == lock -> at = LOOK
           :: else -> n = target; target = 0; lock = 0; st = 0; at = resume
           fi
       }
    :: atomic {
           at == LOOK ->
           st = state[SLOT(lock)];
           if
           :: st / 8 != SEQ(lock) -> at = LEFT
           :: st / 8 == SEQ(lock) && PHASE(st) == LOCKING ->
#ifdef MUT_WAIT_FOR_LOCKING
              at = WAIT
#else
              at = ABORT
#endif
           :: st / 8 == SEQ(lock) && PHASE(st) == ABORTED -> at = FIND
           :: else -> at = WAIT
           fi
       }
    :: atomic {
           at == LEFT ->
#ifdef MUT_HASTY
           assert(false);
#else
           assert(orec[target] != lock); /* a lock never names an attempt that its slot has left */
#endif
           at = MEET
       }
    :: atomic {
           at == ABORT ->
           if
           :: state[SLOT(lock)] == st -> state[SLOT(lock)] = STATE(st / 8, ABORTED)
           :: else
           fi;
#ifdef MUT_ABORT_UNCHECKED
           st = state[SLOT(lock)];
           at = FIND
#else
           at = MEET
#endif
       }
    /* The owner may be anywhere in its log: what is found is the attempt's if the state is the same afterwards. */
    :: atomic {
           at == FIND -> found = BASE(SLOT(lock), target);
#ifdef NO_SECOND_LOOK
           at = SWAP
#else
           at = SECOND_LOOK
#endif
       }
    :: atomic {
           at == SECOND_LOOK ->
           if
           :: state[SLOT(lock)] == st -> at = SWAP
           :: else -> found = 0; at = MEET
           fi
       }
    :: atomic {
           at == SWAP ->
           if
           :: orec[target] == lock -> unlock(target, found)
           :: else
           fi;
           found = 0;
           at = MEET
       }
    :: atomic { at == WAIT && orec[target] != lock -> at = MEET }
    :: atomic {
           at == WAIT && orec[target] == lock && MAY_RECOVER(SLOT(lock)) ->
           s = SLOT(lock);
           recoverer[s] = me;
           helping = s;
           at = RECOVER
       }
    :: atomic { at == WAIT && orec[target] == lock && STUCK(SLOT(lock)) -> gave_up = true; lock = 0; target = 0; st = 0; at = resume }
    /* ---------------------------------------------------------------- somebody else's death */
    :: atomic {
           at == RECOVER ->
           st = state[s];
           n = 0;
           decided = PHASE(st) == COMMITTED || (PHASE(st) == SINGLE && wv[s] != 0);
           if
           :: PHASE(st) == IDLE || PHASE(st) == FREE -> at = WIPE
           :: PHASE(st) == LOCKING -> at = R_ABORT
#ifndef WV_DECIDES
           :: PHASE(st) == SINGLE && !decided && writes[s] > 0 && orec[0] == CURRENT(s) -> decided = true; at = R_MARK
#endif
           :: PHASE(st) != IDLE && PHASE(st) != FREE && decided -> at = APPLY
           :: else -> at = RELEASE
           fi
       }
    :: atomic {
           at == R_ABORT ->
           if
           :: state[s] == st -> state[s] = STATE(st / 8, ABORTED)
           :: else
           fi;
           at = RELEASE
       }
    :: atomic {
           at == R_MARK ->
           version = MAX(clock, BASE(s, 0)) + 1;
#ifdef MUT_RECOVER_NO_MARK
           at = R_STORE
#else
           wv[s] = version;
           version = 0;
           at = APPLY
#endif
       }
#if defined(MUT_RECOVER_NO_MARK) || defined(MUT_NO_MARK)
    :: atomic { at == R_STORE -> word[0] = shadow[s]; at = R_UNLOCK }
    :: atomic { at == R_UNLOCK -> unlock(0, version); version = 0; at = WIPE }
#endif
    /* ---------------------------------------------------------------- the visitor */
    :: atomic {
           at == VISIT ->
           n = 0;
#ifdef EARLY
           at = GATHERING
#else
           at = SWEEP
#endif
       }
    :: atomic { /* looks at the nodes, waiting for nobody but who is stuck */
           at == GATHERING ->
           if
           :: n < NODES && !gave_up && IS_LOCK(orec[n]) -> meet(n, GATHERING)
           :: n < NODES && !gave_up && !IS_LOCK(orec[n]) -> n++
           :: gave_up -> gave_up = false; n++
           :: !gave_up && n == NODES -> n = 0; at = (swept -> LAST : SWEEP)
           fi
       }
    :: atomic {
           at == SWEEP && AT_END(0) && AT_END(1) ->
           if
           :: MAY_RECOVER(0) -> s = 0; recoverer[0] = me; helping = 0; resume = SWEEP; at = RECOVER
           :: !MAY_RECOVER(0) && MAY_RECOVER(1) -> s = 1; recoverer[1] = me; helping = 1; resume = SWEEP; at = RECOVER
           :: else -> n = 0; swept = true; at = GATHERING
           fi
       }
    :: d_step { at == LAST -> check_end(); forget() }
    /* ---------------------------------------------------------------- fate */
    :: atomic {
           me != VISITOR && deaths > 0 && at != OVER ->
           deaths--;
           dead[me] = true;
           if
           :: helping != NONE -> recoverer[helping] = NONE
           :: else
           fi;
           forget()
       }
    :: atomic { me != VISITOR && stops > 0 && at != OVER && helping == NONE -> stops--; stopped[me] = true; forget() }
    :: at == OVER -> break
    od
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
