/*
 * elder.pml: the right of way.
 *
 * Who has lost too often takes the token before its first read, and nobody else decides anything until the token is given
 * up. Participants run executions: a full commit, which reads both nodes and writes any of them, or a single write
 * of node 0. Those in ELDERS starve from the start; another one starves when it has lost an execution, and runs
 * one more (ONCE: is out). Anyone may die, or stop for ever, before any step. A lease may be over at any time, LEASES
 * times, and always if the token's holder has stopped.
 *
 *   right of way   an execution that has the token from its begin to its end never fails, nor needs rounds without end
 *   progress       nobody waits for ever, except for a node of one that stopped after deciding; who waits like that
 *                  counts as stopped, too. Any other is an invalid end state
 *   order          nobody younger takes the token twice before an older one that starves and runs
 *   atomicity      truth[] is what the nodes hold by the decisions made: a lock turns into the truth, and nothing but
 *                  the truth is overwritten
 *
 * Versions stand for words. What commit.pml has shown is taken in larger steps: a lock is met and its owner's state
 * looked at in one, a version is logged in the step that decides, a log is emptied in the one that leaves the slot.
 * Processes that begin alike get kinds that rise. Single writes that others decide are in mark.pml.
 */
#ifndef PROCS
#define PROCS 2
#endif
#ifndef OPS
#define OPS 1 /* of each */
#endif
#ifndef ELDERS
#define ELDERS 1 /* set of processes */
#endif
#ifndef OTHERS
#define OTHERS 1 /* the first kind of execution that the others run */
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef STOPS
#define STOPS 1
#endif
#ifndef LEASES
#define LEASES 1
#endif
#define ROUNDS 2 /* of locking, in one execution */
#define NODES 2
#define NONE 255
#define BIT(i) (1 << (i))
#define FIRST(mask) (!((mask) & 1)) /* of 1 or 2 members */
#define MAX(a, b) ((a) > (b) -> (a) : (b))

/* What an execution does, as a number: a full commit of that set of nodes, or a single write of node 0. */
#define KINDS 4
#define LONE 4
#define WRITES(kind) ((kind) == LONE -> 1 : (kind))
#define READS(kind) ((kind) == LONE -> 1 : 3)

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
#define CURRENT(s) LOCK(s, state[s] / 8)

byte orec[NODES];
byte token;   /* a ticket, or 0 */
byte tickets; /* drawn */

/* A slot. */
byte state[PROCS];
byte ticket[PROCS];
byte wv[PROCS];
byte writes[PROCS]; /* set of nodes */
byte base[PROCS * NODES];
#define BASE(s, n) base[(s) * NODES + (n)]

/* ------------------------------------------------------------------------------------------ the world */

byte truth[NODES];

/* From none to as many as given: one that may still die never counts as waiting for ever. */
byte deaths;
byte stops;
byte leases;
bool dead[PROCS];
bool stopped[PROCS];
bool recovered[PROCS];
byte recoverer[PROCS] = NONE;
bool robbed[PROCS]; /* of the token, in this execution */
byte passed[PROCS]; /* so often, by younger ones */
byte holder;        /* of the token */

#define MAY_RECOVER(s) (dead[s] && !recovered[s] && recoverer[s] == NONE)
#define STUCK(s) (stopped[s] && (PHASE(state[s]) == COMMITTED || PHASE(state[s]) == SINGLE))

/* An elder's locks are left alone as long as it has the token. */
#ifdef MUT_ABORT_ELDER
#define HAS_TIME(s) false
#else
#define HAS_TIME(s) (token != 0 && token == ticket[s])
#endif

#define OTHERS_TOKEN (token != 0 && token != ticket[me])
#define OWN_TOKEN (elder && token == ticket[me])


/* Does an older one starve that is alive and runs? */
#define OLDER_THAN(p) (ticket[p] != 0 && ticket[p] < mine && !dead[p] && !stopped[p])
#if PROCS == 3
#define OLDER (OLDER_THAN(0) || OLDER_THAN(1) || OLDER_THAN(2))
#else
#define OLDER (OLDER_THAN(0) || OLDER_THAN(1))
#endif

mtype = {
    BEGIN, DRAW, PUBLISH, LOOK_OLDER, TAKE, READ,
    PEEK, ANNOUNCE, ACQUIRE, LOOK, CHECK, DECIDE, APPLY, LEAVE, BACK, IDLING, AGAIN,
    FAIL, GIVE_UP, RETIRE,
    MEET, ABORT, SWAP, WAIT, WAIT_TOKEN, TAKE_AWAY,
    RECOVER, R_ABORT, R_APPLY, R_RELEASE, R_TOKEN, R_LEAVE,
    OVER
}

inline unlock(n, v)
{
    assert(IS_LOCK(orec[n]) && v == truth[n]);
    orec[n] = v
}

inline decide(n)
{
    if
    :: writes[s] & BIT(n) -> assert(truth[n] == BASE(s, n)); truth[n] = wv[s]
    :: else
    fi
}

inline meet(n, then)
{
    target = n;
    lock = orec[n];
    resume = then;
    at = MEET
}

inline forget()
{
    s = 0; todo = 0; rest = 0; rounds = 0; target = 0; lock = 0; helping = NONE; mine = 0;
    starving = false; elder = false; conflict = false; held_up = false; busy = NONE; resume = BEGIN;
    ops = 0; kind = 0;
    at = OVER
}

inline count_passed(p)
{
    if
    :: OLDER_THAN(p) -> passed[p]++; assert(passed[p] < PROCS)
    :: else
    fi
}

inline rob()
{
    robbed[holder] = true;
    token = 0
}

/* Where the token is taken: before the first read, or after it. */
#ifdef MUT_TOKEN_LATE
#define AFTER_BEGIN READ
#else
#define AFTER_BEGIN (starving -> (mine == 0 -> DRAW : LOOK_OLDER) : READ)
#endif

#ifdef MUT_LOOK_EARLY
#define FIRST_STEP PEEK
#else
#define FIRST_STEP ANNOUNCE
#endif

#ifdef MUT_ELDER_COUNTS
#define COUNTED true
#else
#define COUNTED !OWN_TOKEN
#endif

#ifdef MUT_ELDER_HASTY
#define PATIENT false
#else
#define PATIENT OWN_TOKEN
#endif

#ifdef MUT_RECOVER_TOKEN_LATE
#define SETTLED R_LEAVE
#else
#define SETTLED R_TOKEN
#endif

proctype participant(byte me; byte ops; byte kind)
{
    mtype at = BEGIN;
    mtype resume = BEGIN;
    byte s, todo, rest, rounds, target, lock, mine;
    byte busy = NONE; /* the node that somebody else holds */
    byte helping = NONE;
    bool starving, elder, conflict, held_up;

    starving = (ELDERS & BIT(me)) != 0;
    do
    /* ---------------------------------------------------------------- begins; takes the token */
    :: atomic {
           at == BEGIN ->
           todo = READS(kind);
           rounds = 0;
           robbed[me] = false;
           at = AFTER_BEGIN
       }
    :: atomic { at == DRAW -> tickets++; mine = tickets; at = PUBLISH }
    :: atomic { at == PUBLISH -> ticket[me] = mine; at = LOOK_OLDER }
#ifdef MUT_YOUNGER_FIRST
    :: atomic { at == LOOK_OLDER -> at = TAKE }
#else
    :: atomic { at == LOOK_OLDER && !OLDER -> at = TAKE }
#endif
    :: atomic {
           at == TAKE ->
           if
           :: token == 0 ->
              token = mine;
              holder = me;
              elder = true;
              count_passed(0);
              count_passed(1);
#if PROCS == 3
              count_passed(2);
#endif
              at = READ
           :: else -> resume = LOOK_OLDER; at = WAIT_TOKEN
           fi
       }
    /* ---------------------------------------------------------------- reads */
    :: atomic {
           at == READ ->
           if
           :: IS_LOCK(orec[FIRST(todo)]) -> meet(FIRST(todo), READ)
           :: else ->
              BASE(me, FIRST(todo)) = orec[FIRST(todo)];
              todo = todo & ~BIT(FIRST(todo));
#ifdef MUT_TOKEN_LATE
              at = (starving && !elder -> (mine == 0 -> DRAW : LOOK_OLDER) : READ);
              if
              :: todo == 0 && at == READ -> at = FIRST_STEP
              :: else
              fi
#else
              at = (todo == 0 -> FIRST_STEP : READ)
#endif
           fi
       }
    /* ---------------------------------------------------------------- commits */
#ifdef MUT_LOOK_EARLY
    :: atomic {
           at == PEEK ->
           if
           :: OTHERS_TOKEN -> resume = AGAIN; at = WAIT_TOKEN
           :: else -> at = ANNOUNCE
           fi
       }
#endif
    :: atomic {
           at == ANNOUNCE ->
           rounds = rounds + (rounds < ROUNDS);
           assert(state[me] / 8 < 31);
           wv[me] = 0;
           writes[me] = WRITES(kind);
           state[me] = STATE(state[me] / 8 + 1, (kind == LONE -> SINGLE : LOCKING));
           todo = writes[me];
           at = ACQUIRE
       }
    :: atomic {
           at == ACQUIRE ->
           if
           :: orec[FIRST(todo)] == BASE(me, FIRST(todo)) ->
              orec[FIRST(todo)] = CURRENT(me);
              todo = todo & ~BIT(FIRST(todo));
              at = (todo == 0 -> LOOK : ACQUIRE)
           :: orec[FIRST(todo)] != BASE(me, FIRST(todo)) ->
              if
#ifdef MUT_ELDER_HASTY
              :: IS_LOCK(orec[FIRST(todo)]) && !elder -> busy = FIRST(todo)
              :: IS_LOCK(orec[FIRST(todo)]) && elder -> conflict = true
#else
              :: IS_LOCK(orec[FIRST(todo)]) -> busy = FIRST(todo)
#endif
              :: !IS_LOCK(orec[FIRST(todo)]) -> conflict = true
              fi;
              todo = writes[me];
              at = BACK
           fi
       }
    :: atomic {
           at == LOOK ->
           if
#if defined(MUT_NO_LOOK) || defined(MUT_LOOK_EARLY)
           :: OTHERS_TOKEN && kind == LONE -> held_up = true; todo = writes[me]; at = BACK
           :: !(OTHERS_TOKEN && kind == LONE) ->
#elif defined(MUT_SINGLE_NO_LOOK)
           :: OTHERS_TOKEN && kind != LONE -> held_up = true; todo = writes[me]; at = BACK
           :: !(OTHERS_TOKEN && kind != LONE) ->
#else
           :: OTHERS_TOKEN -> held_up = true; todo = writes[me]; at = BACK
           :: !OTHERS_TOKEN ->
#endif
              at = (READS(kind) == writes[me] -> DECIDE : CHECK)
           fi
       }
    :: atomic { /* the node that it only reads */
           at == CHECK ->
           todo = READS(kind) & ~writes[me];
           if
           :: orec[FIRST(todo)] == BASE(me, FIRST(todo)) -> todo = 0; at = DECIDE
           :: IS_LOCK(orec[FIRST(todo)]) && PATIENT -> busy = FIRST(todo); todo = writes[me]; at = BACK
           :: orec[FIRST(todo)] != BASE(me, FIRST(todo)) && !(IS_LOCK(orec[FIRST(todo)]) && PATIENT) ->
              conflict = true;
              todo = writes[me];
              at = BACK
           fi
       }
    :: atomic {
           at == DECIDE ->
           todo = writes[me];
           if
           :: PHASE(state[me]) == ABORTED -> at = BACK
           :: else ->
              wv[me] = MAX(BASE(me, 0), BASE(me, 1)) + 1;
              if
              :: kind == LONE
              :: kind != LONE -> state[me] = STATE(state[me] / 8, COMMITTED)
              fi;
              s = me;
              decide(0);
              decide(1);
              at = APPLY
           fi
       }
    :: atomic {
           at == APPLY ->
           unlock(FIRST(todo), wv[me]);
           todo = todo & ~BIT(FIRST(todo));
           at = (todo == 0 -> LEAVE : APPLY)
       }
    :: atomic {
           at == LEAVE ->
           state[me] = STATE(state[me] / 8, IDLE);
           writes[me] = 0;
           s = 0;
           at = GIVE_UP
       }
    :: atomic {
           at == BACK ->
           if
           :: orec[FIRST(todo)] == CURRENT(me) -> unlock(FIRST(todo), BASE(me, FIRST(todo)))
           :: else
           fi;
           todo = todo & ~BIT(FIRST(todo));
           at = (todo == 0 -> IDLING : BACK)
       }
    :: atomic {
           at == IDLING ->
           state[me] = STATE(state[me] / 8, IDLE);
           writes[me] = 0;
           if
           :: conflict -> conflict = false; at = FAIL
           :: !conflict && held_up -> held_up = false; resume = AGAIN; at = WAIT_TOKEN
           :: !conflict && busy != NONE ->
              if
              :: IS_LOCK(orec[busy]) -> meet(busy, AGAIN)
              :: else -> at = AGAIN
              fi;
              busy = NONE
           :: !conflict && !held_up && busy == NONE -> at = AGAIN
           fi
       }
    /* Is what it has read still valid? */
    :: atomic {
           at == AGAIN ->
           todo = (todo == 0 -> READS(kind) : todo);
           if
           :: rounds == ROUNDS && COUNTED -> todo = 0; at = FAIL
           :: !(rounds == ROUNDS && COUNTED) ->
              if
              :: orec[FIRST(todo)] == BASE(me, FIRST(todo)) ->
                 todo = todo & ~BIT(FIRST(todo));
                 at = (todo == 0 -> FIRST_STEP : AGAIN)
              :: IS_LOCK(orec[FIRST(todo)]) && PATIENT -> meet(FIRST(todo), AGAIN)
              :: orec[FIRST(todo)] != BASE(me, FIRST(todo)) && !(IS_LOCK(orec[FIRST(todo)]) && PATIENT) ->
                 todo = 0;
                 at = FAIL
              fi
           fi
       }
    /* ---------------------------------------------------------------- ends */
    :: atomic {
           at == FAIL ->
           assert(!elder || robbed[me]); /* right of way */
           at = GIVE_UP;
#ifndef ONCE
           if
           :: !starving -> starving = true; ops++ /* once more, as an elder */
           :: else
           fi
#endif
       }
    :: atomic {
           at == GIVE_UP ->
#ifdef MUT_RETIRE_FIRST
           ticket[me] = 0;
#elif defined(MUT_GIVE_UP_BLIND)
           token = (elder -> 0 : token);
#else
           token = (OWN_TOKEN -> 0 : token);
#endif
           at = RETIRE
       }
    :: atomic {
           at == RETIRE ->
#ifdef MUT_RETIRE_FIRST
           token = (elder && token == mine -> 0 : token);
#endif
           assert(mine == 0 || token != mine);
           ticket[me] = 0;
           mine = 0;
           elder = false;
           passed[me] = 0;
           ops--;
           BASE(me, 0) = 0;
           BASE(me, 1) = 0;
           wv[me] = 0;
           if
           :: ops == 0 -> forget()
           :: else -> at = BEGIN
           fi
       }
    /* ---------------------------------------------------------------- somebody else's lock */
    :: atomic {
           at == MEET ->
           if
           :: orec[target] != lock -> target = 0; lock = 0; at = resume
           :: else ->
              assert(state[SLOT(lock)] / 8 == SEQ(lock));
              if
              :: PHASE(state[SLOT(lock)]) == LOCKING -> at = (HAS_TIME(SLOT(lock)) -> WAIT : ABORT)
              :: PHASE(state[SLOT(lock)]) == ABORTED -> at = SWAP
              :: else -> at = WAIT
              fi
           fi
       }
    :: atomic {
           at == ABORT ->
           if
           :: state[SLOT(lock)] == STATE(SEQ(lock), LOCKING) ->
              state[SLOT(lock)] = STATE(SEQ(lock), ABORTED)
           :: else
           fi;
           at = MEET
       }
    :: atomic {
           at == SWAP ->
           if
           :: orec[target] == lock -> unlock(target, BASE(SLOT(lock), target))
           :: else
           fi;
           target = 0;
           lock = 0;
           at = resume
       }
    :: atomic {
           at == WAIT && orec[target] == lock &&
           (PHASE(state[SLOT(lock)]) == ABORTED || PHASE(state[SLOT(lock)]) == LOCKING && !HAS_TIME(SLOT(lock))) ->
           at = MEET
       }
#ifndef MUT_NO_LEASE
    :: atomic {
           at == WAIT && orec[target] == lock && HAS_TIME(SLOT(lock)) && (stopped[SLOT(lock)] || leases > 0) ->
           leases = leases - !stopped[SLOT(lock)];
           rob()
       }
#endif
    :: atomic { at == WAIT && orec[target] != lock -> target = 0; lock = 0; at = resume }
    :: atomic {
           at == WAIT && orec[target] == lock && MAY_RECOVER(SLOT(lock)) ->
           helping = SLOT(lock);
           recoverer[helping] = me;
           at = RECOVER
       }
    :: atomic { at == WAIT && orec[target] == lock && STUCK(SLOT(lock)) -> stopped[me] = true; forget() }
    /* ---------------------------------------------------------------- somebody else's token */
    :: atomic { at == WAIT_TOKEN && !OTHERS_TOKEN -> at = resume }
#ifdef MUT_LEASE_BLIND
    :: atomic { at == WAIT_TOKEN && OTHERS_TOKEN && leases > 0 -> leases--; robbed[holder] = true; at = TAKE_AWAY }
    :: atomic { at == TAKE_AWAY -> token = 0; at = resume }
#else
    :: atomic { at == WAIT_TOKEN && OTHERS_TOKEN && leases > 0 -> leases--; rob() }
#endif
#ifndef MUT_NO_LEASE
    :: atomic { at == WAIT_TOKEN && OTHERS_TOKEN && stopped[holder] -> rob() }
#endif
    :: atomic {
           at == WAIT_TOKEN && OTHERS_TOKEN && MAY_RECOVER(holder) ->
           helping = holder;
           recoverer[helping] = me;
           at = RECOVER
       }
    /* ---------------------------------------------------------------- somebody else's death */
    :: atomic {
           at == RECOVER ->
           s = helping;
           target = 0;
           lock = 0;
           rest = writes[s];
           if
           :: PHASE(state[s]) == COMMITTED || (PHASE(state[s]) == SINGLE && wv[s] != 0) -> at = R_APPLY
#ifdef MUT_RECOVER_DECIDES
           :: PHASE(state[s]) == SINGLE && wv[s] == 0 && orec[0] == CURRENT(s) ->
              wv[s] = BASE(s, 0) + 1;
              decide(0);
              at = R_APPLY
           :: PHASE(state[s]) == SINGLE && wv[s] == 0 && orec[0] != CURRENT(s) -> at = R_RELEASE
#else
           :: PHASE(state[s]) == SINGLE && wv[s] == 0 -> at = R_RELEASE
#endif
           :: PHASE(state[s]) == LOCKING -> at = R_ABORT
           :: PHASE(state[s]) == ABORTED -> at = R_RELEASE
           :: PHASE(state[s]) == IDLE -> rest = 0; at = SETTLED
           fi
       }
    :: atomic { /* somebody else may have done it this moment; the owner can't decide any more */
           at == R_ABORT -> state[s] = STATE(state[s] / 8, ABORTED); at = R_RELEASE
       }
    :: atomic {
           at == R_APPLY ->
           if
           :: orec[FIRST(rest)] == CURRENT(s) -> unlock(FIRST(rest), wv[s])
           :: else
           fi;
           rest = rest & ~BIT(FIRST(rest));
           at = (rest == 0 -> SETTLED : R_APPLY)
       }
    :: atomic {
           at == R_RELEASE ->
           if
           :: orec[FIRST(rest)] == CURRENT(s) -> unlock(FIRST(rest), BASE(s, FIRST(rest)))
           :: else
           fi;
           rest = rest & ~BIT(FIRST(rest));
           at = (rest == 0 -> SETTLED : R_RELEASE)
       }
    :: atomic {
           at == R_TOKEN ->
#ifdef MUT_RECOVER_TOKEN_LATE
           token = (token == rest -> 0 : token);
           helping = NONE;
           rest = 0;
           s = 0;
           at = resume
#else
#ifndef MUT_RECOVER_KEEPS_TOKEN
           token = (token == ticket[s] -> 0 : token);
#endif
           at = R_LEAVE
#endif
       }
    :: atomic {
           at == R_LEAVE ->
#ifdef MUT_RECOVER_TOKEN_LATE
           rest = ticket[s];
#endif
           state[s] = STATE(state[s] / 8, FREE);
           writes[s] = 0; ticket[s] = 0; wv[s] = 0; BASE(s, 0) = 0; BASE(s, 1) = 0;
           recovered[s] = true;
           recoverer[s] = NONE;
#ifdef MUT_RECOVER_TOKEN_LATE
           at = R_TOKEN
#else
           helping = NONE;
           s = 0;
           at = resume
#endif
       }
    /* ---------------------------------------------------------------- fate */
    :: atomic {
           deaths > 0 && at != OVER ->
           deaths--;
           dead[me] = true;
           if
           :: helping != NONE -> recoverer[helping] = NONE
           :: else
           fi;
           forget()
       }
    :: atomic { stops > 0 && at != OVER && helping == NONE -> stops--; stopped[me] = true; forget() }
    :: at == OVER -> break
    od
}

/* Those that begin alike are: their kinds may as well rise. */
#define ALIKE(p) (((ELDERS >> (p)) & 1) == ((ELDERS >> ((p) - 1)) & 1))

init
{
    byte p, k;

    atomic {
        orec[0] = 1; orec[1] = 1;
        truth[0] = 1; truth[1] = 1;
        select(deaths : 0 .. DEATHS);
        select(stops : 0 .. STOPS);
        select(leases : 0 .. LEASES);
        do
        :: p < PROCS ->
           if
           :: p > 0 && ALIKE(p)
           :: else -> k = ((ELDERS >> p) & 1 -> 1 : OTHERS)
           fi;
           do
           :: k < KINDS -> k++
           :: break
           od;
           run participant(p, OPS, k);
           p++
        :: else -> p = 0; k = 0; break
        od
    }
}
