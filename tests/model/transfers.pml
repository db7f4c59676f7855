/*
 * Two processes add 1 to both nodes, in transactions; a third looks at both in one. At no instant may anybody see
 * the nodes differ, no addition may be lost, and nothing may stay locked.
 */
#define NODES 2
#define SLOTS 4
#include "protocol.inc"

proctype adder(byte me)
{
    LOCALS;
    do
    :: attempts < ATTEMPTS && !done ->
        attempts++;
        begin();
        read(0);
        IF(!doomed, read(1));
        IF(!doomed, assert(value[0] == value[1]); write(0, value[0] + 1); write(1, value[1] + 1); commit())
    :: else -> break
    od;
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
    assert(doomed || value[0] == value[1]);
over:
    ended++
}

proctype last(byte me)
{
    LOCALS;
    WHEN_ALL_HAVE_ENDED;
    assert(word[0] == decided[0] && word[1] == decided[1] && decided[0] == decided[1]);
over:
    skip
}

init
{
    atomic {
        run adder(0);
        run adder(1);
        run reader(2);
        run last(3)
    }
}
