/*
 * get.pml: the end of marking, the end of an object, and ids that nobody has pinned.
 *
 * An object is a head X and an inner node Z, to which only X refers. A holder has X pinned and lets go of it at some time. A
 * getter knows X by its id alone and wants to pin it; a reader reads it by its id alone and pins nothing; a setter by its id alone changes it:
 * commits, and frees what he has replaced, for which Z stands, too. Helpers run cycles; each step may be late, until another cycle even.
 * Who dies is one that is late for ever, since nobody waits for anybody here, but for a setter's lock (whoever waits for one
 * that does not move on takes it away).
 *
 * With CHUNK, X is no head but a node that an object refers to, until the holder takes it out without a change of its own; the setter has found
 * it before. No helper takes it out of use before it is swept.
 *
 *   whole     who has X pinned, by whatever way, finds head and inner node alive, for as long as he keeps the pin
 *   truth     a get of an object that somebody has pinned all the while does not fail; what a reader accepts was the
 *             object's
 *   once      what the setter frees nobody else frees
 *   finished  nobody waits for anybody (spin reports it as an invalid end state)
 */
#ifndef HELPERS
#define HELPERS 2
#endif
#ifndef GETS
#define GETS 1
#endif
#ifndef READS
#define READS 0
#endif
#ifndef SETS
#define SETS 0
#endif
#ifndef CYCLES
#define CYCLES 1
#endif

/* ------------------------------------------------------------------------------------------ shared memory */

#define Z 0 /* a pass meets it first */
#define X 1
#define NONE 2

#define IDLE 0
#define ARM 1
#define ROOTS 2
#define MARK 3
#define KILL 4
#define SWEEP 5
#define GC(cycle, pass, phase) ((cycle) * 128 + (pass) * 8 + (phase))
#define PHASE(g) ((g) % 8)
#define CYCLE(g) ((g) / 128)
#define PASS(g) ((g) / 8 % 16)
short gc;

/* A word of marks for each: cycle and colour. */
#define WHITE 0
#define GRAY 1
#define BLACK 2
byte mark_cycle[2];
byte mark_colour[2];
#define COLOUR(b, c) (mark_cycle[b] == (c) -> mark_colour[b] : WHITE)
#ifdef MUT_GRAY_LIVES
#define SURVIVES(b, c) (COLOUR(b, c) != WHITE)
#else
#define SURVIVES(b, c) (COLOUR(b, c) == BLACK)
#endif

#define FREE 0
#define LIVE 1
#define DYING 2
byte header[2] = LIVE;
byte version;

#define HOLDER 0
#define GETTER 1
byte pin[2] = NONE;
bool under_way; /* the setter's state and log say so */
bool locked;
#ifdef MUT_COUNTERS
byte scans[HELPERS];
#endif

/* ------------------------------------------------------------------------------------------ the world */

byte valid; /* pins that somebody relies upon: number */

inline shade(b, c)
{
    if
    :: mark_cycle[b] < c || (mark_cycle[b] == c && mark_colour[b] == WHITE) -> mark_cycle[b] = c; mark_colour[b] = GRAY
    :: else
    fi
}

inline blacken(b, c)
{
    if
    :: mark_cycle[b] <= c -> mark_cycle[b] = c; mark_colour[b] = BLACK
    :: else
    fi
}

inline out_of_use(b, h)
{
    assert(valid == 0);
    header[b] = h
}

mtype = {
    LOOK, ROOT, SHADE, NEXT, PASS_BEGIN, VISIT, CHILD, COUNT, BLACKEN, PASS_END, ENDING, JUDGE, LOOK_AGAIN, TAKE_OUT, RAISE,
    JUDGED, SWEEPING, BEGIN, PIN, BUMP, AGAIN, ASK, HEAD, FAILED, HAVE, READ_Z, CHECK, LOG, LOG_SHADE, TELL, LOCK, UNLOCK, GIVE, OVER
}

/* Scanning a gray node: shade what it refers to, count up the pass, make it black. */
#ifdef MUT_BLACK_FIRST
#define AFTER_GRAY BLACKEN
#elif defined(MUT_COUNT_FIRST)
#define AFTER_GRAY COUNT
#else
#define AFTER_GRAY CHILD
#endif

proctype helper(byte me)
{
    mtype at = LOOK;
    short my;
    byte i;
    bool found;
#ifdef MUT_COUNTERS
    byte sum;
#endif

    do
    :: atomic {
           at == LOOK ->
           my = gc; i = 0; found = false;
           if
           :: PHASE(my) == IDLE && CYCLE(my) == CYCLES -> my = 0; at = OVER
           :: PHASE(my) == IDLE && CYCLE(my) < CYCLES -> gc = GC(CYCLE(my) + 1, 0, ROOTS); my = 0
           :: PHASE(my) == ROOTS -> at = ROOT
           :: PHASE(my) == MARK -> at = PASS_BEGIN
           :: PHASE(my) == KILL -> at = JUDGE
           :: PHASE(my) == SWEEP -> at = SWEEPING
           fi
       }
    /* ROOTS */
    :: atomic { at == ROOT -> at = (pin[i] == X -> SHADE : NEXT) }
    :: atomic {
           at == SHADE ->
           if
           :: header[X] == LIVE -> shade(X, CYCLE(my))
           :: else
           fi;
           at = NEXT
       }
    :: atomic {
           at == NEXT ->
           i++;
           at = (i == NONE -> LOG : ROOT)
       }
    /* The log of a commit under way. */
    :: atomic { at == LOG && under_way -> at = LOG_SHADE }
    :: atomic {
           (at == LOG && !under_way) || at == LOG_SHADE ->
#ifndef MUT_LOG_BLIND
           if
           :: at == LOG_SHADE -> blacken(Z, CYCLE(my))
           :: else
           fi;
#endif
           if
           :: gc == my -> gc = GC(CYCLE(my), 0, MARK)
           :: else
           fi;
           i = 0; my = 0; at = LOOK
       }
    /* MARK */
    :: atomic {
           at == PASS_BEGIN ->
#ifdef MUT_COUNTERS
           for (i : 0 .. HELPERS - 1) { sum = sum + scans[i] }
           i = 0;
#endif
           at = VISIT
       }
    :: atomic {
           at == VISIT ->
           if
           :: COLOUR(i, CYCLE(my)) == GRAY -> found = true; at = AFTER_GRAY
           :: else -> i++; at = (i == NONE -> PASS_END : VISIT)
           fi
       }
    :: atomic {
           at == CHILD ->
           if
           :: i == X && header[X] == LIVE -> shade(Z, CYCLE(my))
           :: else
           fi;
#if defined(MUT_BLACK_FIRST)
           i++; at = (i == NONE -> PASS_END : VISIT)
#elif defined(MUT_COUNT_FIRST)
           at = BLACKEN
#else
           at = COUNT
#endif
       }
    :: atomic {
           at == COUNT ->
#if defined(MUT_COUNTERS)
           scans[me]++; at = BLACKEN
#elif defined(MUT_NO_COUNT)
           at = BLACKEN
#else
           if
#ifdef MUT_COUNT_FIRST
           :: PHASE(gc) == MARK && CYCLE(gc) == CYCLE(my) -> gc = GC(CYCLE(gc), PASS(gc) + 1, MARK); at = CHILD
#else
           :: PHASE(gc) == MARK && CYCLE(gc) == CYCLE(my) -> gc = GC(CYCLE(gc), PASS(gc) + 1, MARK); at = BLACKEN
#endif
           :: else -> i = 0; my = 0; found = false; at = LOOK
           fi
#endif
       }
    :: atomic {
           at == BLACKEN ->
           if
           :: COLOUR(i, CYCLE(my)) == GRAY -> mark_colour[i] = BLACK
           :: else
           fi;
#ifdef MUT_BLACK_FIRST
           at = CHILD
#else
           i++; at = (i == NONE -> PASS_END : VISIT)
#endif
       }
    :: atomic {
           at == PASS_END ->
           i = 0;
#ifdef MUT_COUNTERS
           for (i : 0 .. HELPERS - 1) { sum = sum - scans[i] }
           i = 0;
           at = (!found && sum == 0 -> ENDING : LOOK);
           sum = 0;
#else
           at = (found -> LOOK : ENDING);
#endif
           found = false
       }
    :: atomic {
           at == ENDING ->
           if
           :: gc == my -> gc = GC(CYCLE(my), 0, KILL)
#ifdef MUT_END_BLIND
           :: gc != my && PHASE(gc) == MARK && CYCLE(gc) == CYCLE(my) -> gc = GC(CYCLE(my), 0, KILL)
#endif
           :: else
           fi;
           my = 0; at = LOOK
       }
    /* KILL */
    :: atomic {
           at == JUDGE ->
#if defined(CHUNK)
           at = JUDGED
#elif defined(MUT_SKIP_DYING)
           at = (header[X] == LIVE && !SURVIVES(X, CYCLE(my)) -> LOOK_AGAIN : JUDGED)
#else
           at = (header[X] != FREE && !SURVIVES(X, CYCLE(my)) -> LOOK_AGAIN : JUDGED)
#endif
       }
    :: atomic { at == LOOK_AGAIN -> at = (gc == my -> TAKE_OUT : JUDGED) }
    :: atomic {
           at == TAKE_OUT ->
           if
           :: header[X] == LIVE -> out_of_use(X, DYING)
           :: else
           fi;
#ifdef MUT_NOT_RAISED
           at = JUDGED
#else
           at = RAISE
#endif
       }
    :: atomic { at == RAISE && !locked -> version++; at = JUDGED }
    :: atomic {
           at == JUDGED ->
           if
           :: gc == my -> gc = GC(CYCLE(my), 0, SWEEP)
           :: else
           fi;
           my = 0; at = LOOK
       }
    /* SWEEP; late sweepers are in sweep.pml */
    :: atomic {
           at == SWEEPING ->
           if
           :: gc != my -> i = 0; my = 0; at = LOOK
           :: else ->
              if
              :: header[i] != FREE && !SURVIVES(i, CYCLE(my)) && !(i == X && locked) ->
                 out_of_use(i, FREE);
                 if
                 :: i == X -> version++
                 :: else
                 fi
              :: else
              fi;
              i++;
              if
              :: i == NONE -> gc = GC(CYCLE(my), 0, IDLE); i = 0; my = 0; at = LOOK
              :: else
              fi
           fi
       }
#ifdef MUT_SWEEP_FIRST
    :: atomic { at == JUDGE && header[Z] != FREE && gc == my && !SURVIVES(Z, CYCLE(my)) -> out_of_use(Z, FREE) }
#endif
    :: at == OVER -> break
    od
}

/* Lets go at some time. */
proctype holder()
{
    atomic { pin[HOLDER] == X -> pin[HOLDER] = NONE; valid-- }
}

#ifdef MUT_PIN_LATE
#define AFTER_BEGIN LOOK
#define AFTER_PIN HEAD
#define AFTER_SAFE PIN
#else
#define AFTER_BEGIN PIN
#define AFTER_PIN LOOK
#define AFTER_SAFE HEAD
#endif

proctype getter(byte gets)
{
    mtype at = BEGIN;
    short my;

    do
    :: atomic { at == BEGIN -> at = (gets > 0 -> AFTER_BEGIN : OVER) }
    :: atomic { at == PIN -> gets--; pin[GETTER] = X; at = AFTER_PIN }
    :: atomic {
           at == LOOK ->
           my = gc;
           if
           :: PHASE(my) == IDLE -> my = 0; at = AFTER_SAFE
           :: PHASE(my) == ROOTS || PHASE(my) == MARK -> at = SHADE
           :: else -> at = ASK
           fi
       }
    :: atomic {
           at == SHADE ->
#ifndef MUT_NO_SHADE
           shade(X, CYCLE(my));
#endif
           at = (PHASE(my) == MARK -> BUMP : AGAIN)
       }
#ifdef MUT_LOOK_ONCE
    :: atomic { at == AGAIN -> my = 0; at = AFTER_SAFE }
#else
    :: atomic { at == AGAIN -> at = (gc == my -> AFTER_SAFE : LOOK); my = 0 }
#endif
    :: atomic {
           at == BUMP ->
           if
#ifdef MUT_NO_BUMP
           :: gc == my -> at = AFTER_SAFE
#else
           :: gc == my -> gc = GC(CYCLE(my), PASS(my) + 1, MARK); at = AFTER_SAFE
#endif
           :: else -> at = LOOK
           fi;
           my = 0
       }
    :: atomic {
           at == ASK ->
           if
           :: COLOUR(X, CYCLE(my)) == BLACK -> my = 0; at = AFTER_SAFE
#ifdef MUT_NEWER_IS_WHITE
           :: else -> my = 0; at = FAILED
#else
           :: else -> at = JUDGED
#endif
           fi
       }
    :: atomic { at == JUDGED -> at = (gc == my -> FAILED : LOOK); my = 0 }
    :: atomic {
           at == HEAD ->
           if
#ifndef MUT_NO_HEAD
           :: header[X] != LIVE -> at = FAILED
#endif
           :: else -> assert(header[X] == LIVE && header[Z] == LIVE); valid++; at = HAVE
           fi
       }
    :: atomic { at == FAILED -> assert(pin[HOLDER] == NONE); pin[GETTER] = NONE; at = BEGIN }
    :: atomic { at == HAVE -> valid--; pin[GETTER] = NONE; at = BEGIN }
    :: at == OVER -> break
    od
}

/* Reads along the path from the head, and looks at the path again. */
proctype reader(byte reads)
{
    mtype at = HEAD;
    byte seen;
    bool alive;

    do
    :: atomic { at == HEAD && reads == 0 -> at = OVER }
    :: atomic { at == HEAD && reads > 0 -> reads--; seen = version; at = (header[X] == LIVE -> READ_Z : HEAD) }
    :: atomic { at == READ_Z -> alive = (header[Z] == LIVE); at = CHECK }
    :: atomic { at == CHECK -> assert(version != seen || alive); seen = 0; alive = false; at = HEAD }
    :: at == OVER -> break
    od
}

/* A commit: says that it is under way, looks at the collector's word, locks what it has read, stores, unlocks, frees. */
proctype setter(byte sets)
{
    mtype at = BEGIN;
    short my;
    byte seen;

    do
#ifdef CHUNK
#define FOUND (header[X] == LIVE && pin[HOLDER] == X)
#else
#define FOUND (header[X] == LIVE)
#endif
    :: atomic { at == BEGIN && (sets == 0 || !FOUND) -> seen = 0; at = OVER }
    :: atomic { at == BEGIN && sets > 0 && FOUND -> sets--; seen = version; at = TELL }
    :: atomic { at == TELL -> under_way = true; at = LOOK }
    :: atomic {
           at == LOOK ->
           my = gc;
           if
           :: PHASE(my) == IDLE -> my = 0; at = LOCK
           :: PHASE(my) == ROOTS || PHASE(my) == MARK -> at = SHADE
           :: else -> at = ASK
           fi
       }
    :: atomic {
           at == SHADE ->
#ifndef MUT_SET_NO_SHADE
           blacken(Z, CYCLE(my));
#endif
           at = AGAIN
       }
#ifdef MUT_SET_LOOK_ONCE
    :: atomic { at == AGAIN -> my = 0; at = LOCK }
#else
    :: atomic { at == AGAIN -> at = (CYCLE(gc) == CYCLE(my) && PHASE(gc) == PHASE(my) -> LOCK : LOOK); my = 0 }
#endif
#ifdef MUT_SET_CONDEMNED
    :: atomic { at == ASK -> at = AGAIN }
#else
    :: atomic { at == ASK -> at = (COLOUR(X, CYCLE(my)) == BLACK -> AGAIN : JUDGED) }
#endif
    :: atomic { at == JUDGED -> at = (CYCLE(gc) == CYCLE(my) && PHASE(gc) == PHASE(my) -> FAILED : LOOK); my = 0 }
    :: atomic {
           at == LOCK ->
           if
           :: version == seen && header[X] != FREE -> locked = true; at = UNLOCK
           :: else -> at = FAILED
           fi
       }
    :: atomic { at == UNLOCK -> locked = false; version++; at = GIVE }
    :: atomic { at == GIVE -> assert(header[Z] == LIVE); header[Z] = FREE; under_way = false; sets = 0; seen = 0; at = OVER }
    :: atomic { at == FAILED -> under_way = false; seen = 0; at = BEGIN }
    :: at == OVER -> break
    od
}

init
{
    byte i;

    atomic {
        pin[HOLDER] = X;
        valid = 1;
        run holder();
        run getter(GETS);
        run reader(READS);
        run setter(SETS);
        for (i : 0 .. HELPERS - 1) { run helper(i) }
        i = 0
    }
}
