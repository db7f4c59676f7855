/*
 * Two processes each look at both nodes and, if both are 0, set one of them, each its own. One after the other only one
 * of them would: what a transaction has only read counts at its commit as well.
 */
#define NODES 2
#define SLOTS 3
#include "protocol.inc"

proctype setter(byte me; byte own)
{
    LOCALS;
    do
    :: attempts < ATTEMPTS && !done ->
        attempts++;
        begin();
        read(1 - own);
        IF(!doomed, read(own));
        IF(!doomed && (value[0] + value[1] > 0), break);
        IF(!doomed, write(own, 1); commit())
    :: else -> break
    od;
over:
    ended++
}

proctype last(byte me)
{
    LOCALS;
    WHEN_ALL_HAVE_ENDED;
    assert(word[0] + word[1] <= 1);
    assert(word[0] == decided[0] && word[1] == decided[1]);
over:
    skip
}

init
{
    atomic {
        run setter(0, 0);
        run setter(1, 1);
        run last(2)
    }
}
