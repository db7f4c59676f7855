/*
 * reuse.pml: a node that is freed and is another object at once, against those who are late.
 *
 * Node P refers to node N, or to nothing. N has a header (birth stamp; alive or free) and two words: the number of a
 * box, and a stamp that equals the box's content. The first part of a stamp says which incarnation of N it was written for.
 *
 *   recycler      unlinks and frees N in a full commit; takes it again as another object, born locked; may drop that
 *                 and take it once more (an aborted transaction); fills it, and links it in a second full commit
 *   writers       walk from P to N, check the path, then change N by a single write: a new box, the old one freed at once
 *   path reader   walks from P over N to the box, looks at both orecs again
 *   id reader     holds an id (N's place and a birth stamp), any: reads N's orec, then its header, then its words; looks at
 *                 the orec again
 *
 *   effects    a single write changes the incarnation that its checked path led to, and no other
 *   reads      what is accepted is whole, and of the incarnation that P referred to or that the id names
 *
 * BORN_UNLOCKED leaves a new node's orec as freeing it has left it. It is enough when ids become known by commits only
 * (KNOWN_IDS), and fails for an id that got around before.
 */
#ifndef WRITERS
#define WRITERS 1
#endif
#ifndef READER
#define READER path_reader /* or id_reader, or nobody: they change nothing, so one at a time will do */
#endif
#define P 0
#define N 1
#define LOCKED 128
#define IS_LOCK(o) ((o) >= LOCKED)
#define BOXES 5
#define BIRTHS 3 /* 1 is there at first */

byte orec[2];
bool ref = true; /* P's word: does it refer to N? */
byte birth = 1;  /* N's header */
bool alive = true;
byte cell;  /* N's words */
byte stamp;
byte content[BOXES];
bool taken[BOXES];

byte linked = 1; /* the incarnation P refers to, 0: none */
byte known = 1;  /* the newest one that was ever linked */

#define STAMP(incarnation, count) ((incarnation) * 8 + (count))
#define OF(stamp) ((stamp) / 8)

inline take_box(box)
{
    box = 0;
    do
    :: taken[box] -> box++
    :: else -> break
    od;
    taken[box] = true
}

#ifdef MUT_FREED_KEEPS_VERSION
#define RAISED(version) (version)
#else
#define RAISED(version) ((version) + 1)
#endif

proctype recycler()
{
    byte p, n, box;

    /* Unlinks and frees: locks both, stores, unlocks both. */
    do
    :: atomic { !IS_LOCK(orec[N]) -> n = orec[N] };
       p = orec[P];
       box = cell;
       orec[P] = LOCKED;
       if
       :: atomic { orec[N] == n -> orec[N] = LOCKED; break }
       :: atomic { else -> orec[P] = p }
       fi
    od;
    atomic { ref = false; linked = 0 };
    alive = false;
    orec[P] = p + 1;
    orec[N] = RAISED(n);
    taken[box] = false;

    /* Takes it again, once or twice. */
    do
    :: true ->
#ifdef BORN_UNLOCKED
       n = orec[N];
#else
       /* Freed and still free: nobody locks it but one who is late and will lose. */
       atomic { !IS_LOCK(orec[N]) -> n = orec[N]; orec[N] = LOCKED };
#endif
       birth = birth + 1;
       alive = true;
       atomic { take_box(box) };
       content[box] = STAMP(birth, 0);
       cell = box;
       stamp = STAMP(birth, 0);
       if
       :: birth < BIRTHS -> /* drops it */
          alive = false;
#ifndef BORN_UNLOCKED
#ifdef MUT_DROPPED_KEEPS_VERSION
          orec[N] = n;
#else
          orec[N] = n + 1;
#endif
#endif
          taken[box] = false
       :: true -> break
       fi
    od;

    /* Links it. */
    p = orec[P];
    orec[P] = LOCKED;
    atomic { ref = true; linked = birth; known = birth };
#ifndef BORN_UNLOCKED
    orec[N] = n + 1;
#endif
    orec[P] = p + 1
}

proctype writer()
{
    byte p, n, old, seen, box, aim;

    do
    :: atomic { !IS_LOCK(orec[P]) -> p = orec[P] };
       if
       :: atomic { !ref -> goto over }
       :: atomic { ref -> aim = linked }
       fi;
       atomic { !IS_LOCK(orec[N]) -> n = orec[N] };
       old = cell;
       seen = stamp;
       atomic { take_box(box) };
       content[box] = seen + 1;
#ifndef MUT_PATH_UNCHECKED
       if
       :: orec[P] == p
       :: atomic { orec[P] != p -> taken[box] = false; p = 0; n = 0; old = 0; seen = 0; box = 0; aim = 0; goto again }
       fi;
#endif
       if
       :: atomic { orec[N] == n -> orec[N] = LOCKED + 1; break }
       :: atomic { orec[N] != n -> taken[box] = false; p = 0; n = 0; old = 0; seen = 0; box = 0; aim = 0 }
       fi;
again: skip
    od;
    assert(alive && birth == aim && OF(seen) == aim); /* the right object */
    cell = box;
    stamp = seen + 1;
    orec[N] = n + 1;
    taken[old] = false;
over:
    atomic { p = 0; n = 0; old = 0; seen = 0; box = 0; aim = 0 }
}

proctype path_reader()
{
    byte p, n, box, value, seen, aim;

    do
    :: atomic { !IS_LOCK(orec[P]) -> p = orec[P] };
       if
       :: atomic { !ref -> goto over }
       :: atomic { ref -> aim = linked }
       fi;
       atomic { !IS_LOCK(orec[N]) -> n = orec[N] };
       box = cell;
       value = content[box];
       seen = stamp;
       if
#ifdef MUT_READER_PATH_UNCHECKED
       :: true ->
#else
       :: orec[P] == p ->
#endif
          if
#ifdef MUT_READER_NODE_UNCHECKED
          :: true -> break
#else
          :: orec[N] == n -> break
          :: else
#endif
          fi
#ifndef MUT_READER_PATH_UNCHECKED
       :: else
#endif
       fi
    od;
    assert(value == seen && OF(seen) == aim);
over:
    skip
}

proctype id_reader()
{
    byte n, box, value, seen, id;
    bool right;

    atomic {
        if
        :: id = 1
        :: id = 2
        :: id = 3
        fi;
    };
#ifdef KNOWN_IDS
end:
    known >= id;
#endif
    do
#ifdef MUT_BIRTH_FIRST
    :: atomic { right = alive && birth == id };
       atomic { !IS_LOCK(orec[N]) -> n = orec[N] };
#else
    :: atomic { !IS_LOCK(orec[N]) -> n = orec[N] };
       atomic { right = alive && birth == id };
#endif
       if
       :: !right -> goto over
       :: right
       fi;
       box = cell;
       value = content[box];
       seen = stamp;
       if
       :: orec[N] == n -> break
       :: else
       fi
    od;
    assert(value == seen && OF(seen) == id);
over:
    skip
}

proctype nobody()
{
    skip
}

init
{
    atomic {
        byte i;
        taken[0] = true;
        content[0] = STAMP(1, 0);
        stamp = STAMP(1, 0);
        run recycler();
        do
        :: i < WRITERS -> run writer(); i++
        :: else -> break
        od;
        run READER()
    }
}
