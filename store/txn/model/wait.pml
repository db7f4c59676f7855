/*
 * wait.pml: sleeping until something changes, and being woken.
 *
 * A waiter reads a set of nodes, chosen freely, and sleeps until one of them is changed; then it reads again. A node that
 * is locked when it reads is waited for in the same way, alone, until that lock is gone.
 *
 * A committer changes one node or both, or gives a lock back unchanged (a single write that met an elder). A commit
 * begins here with its decision: what comes before is in commit.pml. Its store of an orec may stay in its processor's
 * store buffer while it goes on to the buckets. The buffer has an entry for each node, and they leave in any order; an
 * atomic swap waits until they have left, and a waiter's heavy fence makes all of them leave at once.
 *
 * A committer may die at any step, also while it recovers the other. The reaper outlives all and recovers what is left.
 * A waiter may wake for no reason (a signal, the clock). The nodes hash to one bucket or to two.
 *
 * When nothing else can happen the clock ticks, if somebody died between taking bits from a bucket and waking their owners:
 * only then may a sleeper depend on its look once a second. With WAKE_ALL a recoverer wakes whoever waits, whatever the
 * buckets say, and the clock never ticks.
 *
 *   no lost wake-up   when nothing can happen any more, who sleeps has read unlocked nodes, and they are as it read them
 *   progress          nobody is stuck elsewhere: any other is an invalid end state
 *
 * A futex word counts wake-ups; what matters is whether it has moved since its owner loaded it, so that is what is kept.
 * Committers are alike, so their kinds rise; LONE leaves the second one nothing but recovering the first.
 */
#ifndef WAITERS
#define WAITERS 1 /* or 2; a second one without a process has left bits behind */
#endif
#ifndef DEATHS
#define DEATHS 2
#endif
#ifndef WAKES
#define WAKES 1 /* for no reason */
#endif
#define NODES 2
#define COMMITTERS 2
#define REAPER 2
#define NONE 255
#define BIT(i) (1 << (i))
#define ALL_NODES 3

/* What a committer does, as a number: changes that set of nodes, or gives node 0 back. 0: nothing any more. */
#define KINDS 4
#define BACK 4
#define KIND_NODES(kind) ((kind) == BACK -> 1 : (kind))
#define FIRST(mask) (!((mask) & 1)) /* of 1 or 2 members */

/* ------------------------------------------------------------------------------------------ shared memory */

#define LOCK(s, q) (128 + (s) * 32 + (q))
#define IS_LOCK(o) ((o) >= 128)
#define CURRENT(s) LOCK(s, seq[s])

byte orec[NODES];
byte bucket[NODES]; /* sets of waiters */
byte apart;         /* does each node have its own? */
#define BUCKET(n) bucket[(n) * apart]

/* A committer's slot: its attempt; its log, the nodes and what their orecs are to become. An empty one is not decided. */
byte seq[COMMITTERS];
byte writes[COMMITTERS];
byte next[COMMITTERS * NODES];
#define NEXT(s, n) next[(s) * NODES + (n)]

/* A waiter's slot. */
#define SLOTS 2
bool waiting[SLOTS];
bool moved[SLOTS]; /* its futex word */
bool asleep[SLOTS];

/* Store buffers. A slot is left by a store that comes after those of the orecs: it is late, or waits for them, alike. */
byte stored[(COMMITTERS + 1) * NODES];
#define STORED(p, n) stored[(p) * NODES + (n)]
#define DRAINED(p) (STORED(p, 0) == 0 && STORED(p, 1) == 0)

inline drain_orec(p, n)
{
    if
    :: STORED(p, n) != 0 -> orec[n] = STORED(p, n); STORED(p, n) = 0
    :: else
    fi
}

inline drain(p)
{
    drain_orec(p, 0);
    drain_orec(p, 1)
}

/* ------------------------------------------------------------------------------------------ the world */

byte deaths = DEATHS;
byte wakes = WAKES;
bool dead[COMMITTERS];
bool ended[COMMITTERS];
byte recoverer[COMMITTERS] = NONE;
bool lost; /* bits that a dead one had taken */
bool closing;

#define MAY_RECOVER(s) (dead[s] && writes[s] != 0 && recoverer[s] == NONE)

mtype = {
    REST, PEEK, APPLY, LOAD, SWAP, EACH, COUNT, CALL, LEAVE,       /* committers, recoverers */
    READ, VALUE, FLAG, ENTER, FENCE, CHECK, SLEEP, SLEEPING, AWAY, /* waiters */
    OVER
}

/* ------------------------------------------------------------------------------------------ committers, recoverers */

inline begin(nodes)
{
    set = nodes;
    todo = nodes;
#ifdef MUT_LOAD_EARLY
    at = PEEK
#else
    at = APPLY
#endif
}

#define IS_HELD(n) ((KIND_NODES(kind) & BIT(n)) != 0 && IS_LOCK(orec[n]))

inline hold(n)
{
    if
    :: KIND_NODES(kind) & BIT(n) -> NEXT(me, n) = orec[n] + (kind != BACK); orec[n] = CURRENT(me)
    :: else
    fi
}

#ifdef MUT_LEAVE_FIRST
#define AFTER_APPLY LEAVE
#define AFTER_WAKING REST
#define AFTER_LEAVING (set == 0 -> REST : LOAD)
#else
#define AFTER_APPLY (set == 0 -> LEAVE : LOAD)
#define AFTER_WAKING LEAVE
#define AFTER_LEAVING REST
#endif
#define AFTER_BITS (bits != 0 -> EACH : (set != 0 -> LOAD : AFTER_WAKING))

proctype participant(byte me; byte kind)
{
    mtype at = REST;
    byte s;
    byte todo; /* nodes to unlock */
    byte set;  /* nodes to wake for */
    byte bits; /* waiters to wake */

    do
    /* Its lock swaps are full barriers. */
    :: atomic {
           at == REST && kind != 0 && DRAINED(me) && !IS_HELD(0) && !IS_HELD(1) ->
           seq[me]++;
           hold(0);
           hold(1);
           writes[me] = KIND_NODES(kind);
           s = me;
           begin(writes[me])
       }
    :: atomic { at == REST && kind == 0 && MAY_RECOVER(0) -> s = 0; recoverer[0] = me; begin(writes[0]) }
    :: atomic { at == REST && kind == 0 && MAY_RECOVER(1) -> s = 1; recoverer[1] = me; begin(writes[1]) }
    :: atomic { at == REST && kind == 0 && me != REAPER -> ended[me] = true; at = OVER }
    :: atomic { at == REST && me == REAPER && ended[0] && ended[1] && writes[0] == 0 && writes[1] == 0 -> at = OVER }
    /* ---------------------------------------------------------------- unlocks */
#ifdef MUT_LOAD_EARLY
    :: atomic {
           at == PEEK ->
           if
           :: BUCKET(FIRST(todo)) == 0 -> set = set & ~BIT(FIRST(todo))
           :: else
           fi;
           todo = todo & ~BIT(FIRST(todo));
           if
           :: todo == 0 -> todo = writes[s]; at = APPLY
           :: else
           fi
       }
#endif
    :: atomic {
           at == APPLY ->
           if
           :: orec[FIRST(todo)] == CURRENT(s) -> STORED(me, FIRST(todo)) = NEXT(s, FIRST(todo))
           :: else ->
#ifdef MUT_RECOVER_OWN_UNLOCKS
              set = set & ~BIT(FIRST(todo))
#endif
           fi;
           todo = todo & ~BIT(FIRST(todo));
           if
           :: todo == 0 ->
#ifdef MUT_BACK_SILENT
              set = (kind == BACK -> 0 : set);
#endif
#ifdef MUT_RECOVER_SILENT
              set = (s != me -> 0 : set);
#endif
              at = AFTER_APPLY
           :: else
           fi
       }
    :: atomic { STORED(me, 0) != 0 -> drain_orec(me, 0) }
    :: atomic { STORED(me, 1) != 0 -> drain_orec(me, 1) }
    /* ---------------------------------------------------------------- wakes */
    :: atomic {
           at == LOAD ->
           if
#ifdef WAKE_ALL
           :: s != me -> set = 0; bits = BIT(SLOTS) - 1; at = EACH
           :: s == me && BUCKET(FIRST(set)) != 0 -> at = SWAP
           :: s == me && BUCKET(FIRST(set)) == 0 ->
#else
#ifdef MUT_STORE_ZERO
           :: BUCKET(FIRST(set)) != 0 -> bits = BUCKET(FIRST(set)); at = SWAP
#else
           :: BUCKET(FIRST(set)) != 0 -> at = SWAP
#endif
           :: BUCKET(FIRST(set)) == 0 ->
#endif
              set = set & ~BIT(FIRST(set));
              at = AFTER_BITS
           fi
       }
    :: atomic {
           at == SWAP && DRAINED(me) ->
#ifndef MUT_STORE_ZERO
           bits = BUCKET(FIRST(set));
#endif
           BUCKET(FIRST(set)) = 0;
           set = set & ~BIT(FIRST(set));
           at = AFTER_BITS
       }
    :: atomic {
           at == EACH ->
           if
#ifdef MUT_CALL_FIRST
           :: waiting[FIRST(bits)] -> at = CALL
#else
           :: waiting[FIRST(bits)] -> at = COUNT
#endif
           :: else -> bits = bits & ~BIT(FIRST(bits)); at = AFTER_BITS
           fi
       }
    :: atomic {
           at == COUNT && DRAINED(me) ->
           moved[FIRST(bits)] = true;
#ifdef MUT_CALL_FIRST
           bits = bits & ~BIT(FIRST(bits));
           at = AFTER_BITS
#else
           at = CALL
#endif
       }
    :: atomic {
           at == CALL ->
           asleep[FIRST(bits)] = false;
#ifdef MUT_CALL_FIRST
           at = COUNT
#else
           bits = bits & ~BIT(FIRST(bits));
           at = AFTER_BITS
#endif
       }
    :: atomic {
           at == LEAVE && DRAINED(me) ->
           writes[s] = 0;
           NEXT(s, 0) = 0;
           NEXT(s, 1) = 0;
           if
           :: s == me -> kind = 0
           :: else -> recoverer[s] = NONE /* gives up the proof of death */
           fi;
           s = 0;
           at = AFTER_LEAVING
       }
    /* ---------------------------------------------------------------- fate: what it has stored will be seen */
    :: d_step {
           me != REAPER && deaths > 0 && at != REST && at != OVER ->
           deaths--;
           dead[me] = true;
           ended[me] = true;
           drain(me);
#ifndef WAKE_ALL
           lost = lost || (bits != 0 && at != SWAP);
#endif
           if
           :: recoverer[0] == me -> recoverer[0] = NONE
           :: recoverer[1] == me -> recoverer[1] = NONE
           :: else
           fi;
           s = 0; todo = 0; set = 0; bits = 0; kind = 0;
           at = OVER
       }
    :: at == OVER -> break
    od
}

/* ------------------------------------------------------------------------------------------ waiters */

#if defined(MUT_FLAG_LATE)
#define BEGIN VALUE
#define AFTER_VALUE ENTER
#define AFTER_ENTER FLAG
#define AFTER_FLAG FENCE
#define AFTER_FENCE CHECK
#define AFTER_CHECK SLEEP
#elif defined(MUT_VALUE_LATE)
#define BEGIN FLAG
#define AFTER_FLAG ENTER
#define AFTER_ENTER FENCE
#define AFTER_FENCE CHECK
#define AFTER_CHECK VALUE
#define AFTER_VALUE SLEEP
#elif defined(MUT_CHECK_EARLY)
#define BEGIN VALUE
#define AFTER_VALUE FLAG
#define AFTER_FLAG CHECK
#define AFTER_CHECK ENTER
#define AFTER_ENTER FENCE
#define AFTER_FENCE SLEEP
#else
#define BEGIN VALUE
#define AFTER_VALUE FLAG
#define AFTER_FLAG ENTER
#ifdef MUT_NO_FENCE
#define AFTER_ENTER CHECK
#else
#define AFTER_ENTER FENCE
#endif
#define AFTER_FENCE CHECK
#define AFTER_CHECK SLEEP
#endif

#define SAME(n) (orec[n] == seen[n])

proctype waiter(byte me; byte wish)
{
    mtype at = READ;
    byte todo = wish;
    byte set; /* nodes it waits for */
    byte seen[NODES];
#ifdef MUT_ENTER_ONCE
    bool entered;
#endif

    do
    :: atomic {
           at == READ ->
           seen[FIRST(todo)] = orec[FIRST(todo)];
           if
           :: IS_LOCK(orec[FIRST(todo)]) ->
              set = BIT(FIRST(todo));
              seen[1 - FIRST(todo)] = 0;
              todo = set;
              at = BEGIN
           :: !IS_LOCK(orec[FIRST(todo)]) && (todo & (todo - 1)) != 0 -> todo = todo & ~BIT(FIRST(todo))
           :: !IS_LOCK(orec[FIRST(todo)]) && (todo & (todo - 1)) == 0 -> set = wish; todo = set; at = BEGIN
           fi
       }
    :: atomic { at == VALUE -> moved[me] = false; at = AFTER_VALUE }
    :: atomic { at == FLAG -> waiting[me] = true; at = AFTER_FLAG }
    :: atomic {
           at == ENTER ->
#ifdef MUT_ENTER_ONCE
           if
           :: entered
           :: else -> BUCKET(FIRST(todo)) = BUCKET(FIRST(todo)) | BIT(me)
           fi;
#else
           BUCKET(FIRST(todo)) = BUCKET(FIRST(todo)) | BIT(me);
#endif
           todo = todo & ~BIT(FIRST(todo));
           if
           :: todo == 0 ->
              todo = set;
#ifdef MUT_ENTER_ONCE
              entered = true;
#endif
              at = AFTER_ENTER
           :: else
           fi
       }
    :: d_step { at == FENCE -> drain(0); drain(1); drain(REAPER); at = AFTER_FENCE }
    :: atomic {
           at == CHECK ->
           if
           :: SAME(FIRST(todo)) && (todo & (todo - 1)) != 0 -> todo = todo & ~BIT(FIRST(todo))
           :: SAME(FIRST(todo)) && (todo & (todo - 1)) == 0 -> todo = set; at = AFTER_CHECK
           :: !SAME(FIRST(todo)) -> at = AWAY
           fi
       }
    :: atomic {
           at == SLEEP ->
           if
           :: !moved[me] -> asleep[me] = true; at = SLEEPING
           :: moved[me] -> at = BEGIN
           fi
       }
    :: atomic { at == SLEEPING && !asleep[me] -> at = BEGIN }
    :: atomic {
           at == SLEEPING && asleep[me] && wakes > 0 ->
           wakes--;
           asleep[me] = false;
           if
           :: at = BEGIN
           :: at = AWAY /* interrupted */
           fi
       }
    :: atomic {
           at == AWAY ->
           waiting[me] = false;
           seen[0] = 0;
           seen[1] = 0;
           set = 0;
           todo = wish;
#ifdef MUT_ENTER_ONCE
           entered = false;
#endif
           at = READ
       }
    :: d_step {
           at == SLEEPING && asleep[me] && closing ->
           assert(!(set & 1) || (SAME(0) && !IS_LOCK(seen[0])));
           assert(!(set & 2) || (SAME(1) && !IS_LOCK(seen[1])));
           at = OVER
       }
    :: at == OVER -> break
    od
}

proctype world()
{
    do
#ifndef MUT_NO_TICK
    :: atomic {
           timeout && lost ->
           lost = false;
           asleep[0] = false;
           asleep[1] = false
       }
    :: timeout && !lost -> closing = true; break
#else
    :: timeout -> closing = true; break
#endif
    od
}

init
{
    byte k;

    atomic {
        orec[0] = 1;
        orec[1] = 1;
        select(apart : 0..1);
#if WAITERS == 1
        if
        :: bucket[0] = 2; bucket[apart] = 2
        :: skip
        fi;
#endif
        select(k : 1 .. KINDS);
        run participant(0, k);
#ifdef LONE
        run participant(1, 0);
#else
        do
        :: k < KINDS -> k++
        :: break
        od;
        run participant(1, k);
#endif
        run participant(REAPER, 0);
        select(k : 1 .. ALL_NODES);
        run waiter(0, k);
#if WAITERS == 2
        do
        :: k < ALL_NODES -> k++
        :: break
        od;
        run waiter(1, k);
#endif
        run world();
        k = 0
    }
}
