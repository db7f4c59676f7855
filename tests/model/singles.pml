/*
 * A process adds 1 to node 0 and then to node 1 by single writes, which do not tick the clock; another adds 1 to both
 * in a transaction; a third looks at both in one. It must see node 0 as far as node 1, or one ahead.
 */
#define NODES 2
#define SLOTS 4
#include "protocol.inc"

#define IN_STEP(zero, one) ((zero) == (one) || (zero) == (one) + 1)

proctype single(byte me)
{
    LOCALS;
    do
    :: attempts < ATTEMPTS && !done -> attempts++; add_one_singly(0)
    :: else -> break
    od;
    IF(done, attempts = 0; done = false;
       do
       :: attempts < ATTEMPTS && !done -> attempts++; add_one_singly(1)
       :: else -> break
       od);
over:
    ended++
}

proctype adder(byte me)
{
    LOCALS;
    begin();
    read(1);
    IF(!doomed, read(0));
    IF(!doomed, assert(IN_STEP(value[0], value[1])); write(0, value[0] + 1); write(1, value[1] + 1); commit());
over:
    ended++
}

proctype reader(byte me)
{
    LOCALS;
    begin();
    if
    :: read(0); IF(!doomed, read(1))
    :: read(1); IF(!doomed, read(0))
    fi;
    assert(doomed || IN_STEP(value[0], value[1]));
over:
    ended++
}

proctype last(byte me)
{
    LOCALS;
    WHEN_ALL_HAVE_ENDED;
    assert(word[0] == decided[0] && word[1] == decided[1]);
    assert(IN_STEP(word[0], word[1]));
over:
    skip
}

init
{
    atomic {
        run single(0);
        run adder(1);
        run reader(2);
        run last(3)
    }
}
