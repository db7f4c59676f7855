/*
 * mark.pml: a single write that others decide.
 *
 * A writer locks the node, looks at the elder's token, and goes on or gives the lock back. It may be late, die, or stop
 * for ever, before any step. A reader that meets its lock does not wait: it decides for it, by a swap of slot.wv to
 * DECIDED(seq), and reads the new word in the writer's log; but not while there is a token. In an attempt, wv holds
 *
 *   0               nothing yet; and so does a mark of another seq, left by somebody late
 *   DECIDED(seq)    it will happen: from a reader
 *   a version       it will happen: from the writer, over whatever mark was there
 *   BACK(seq)       it will not: from the writer, which has seen the token, or from who recovers it
 *
 * The elder takes the token, reads the node, looks at it once more, and gives the token up. The reaper recovers the dead
 * one; it may itself die RELAPSES times, and its successor begins anew. A rival may write the node in one step: any
 * other writer that finds it unlocked and no token.
 *
 *   atomicity      truth is what the node holds by the decisions made: a lock turns into the truth, and nothing but the
 *                  truth is overwritten; who frees what an attempt has replaced, or taken, is right about its decision
 *   read through   what is read in a log is the truth, and decided
 *   right of way   the elder finds the node as it has read it, unless it lost the token
 *   progress       nobody waits for ever, but to write what a stopped one has locked
 */
#ifndef OPS
#define OPS 2
#endif
#ifndef READERS
#define READERS 1
#endif
#ifndef RIVAL
#define RIVAL 1 /* writes */
#endif
#ifndef TERMS
#define TERMS 1 /* of the elder */
#endif
#ifndef DEATHS
#define DEATHS 1
#endif
#ifndef STOPS
#define STOPS 1
#endif
#ifndef RELAPSES
#define RELAPSES 1
#endif

/* ------------------------------------------------------------------------------------------ shared memory */

#define LOCK(q) (128 + (q))
#define IS_LOCK(o) ((o) >= 128)
#define SEQ(o) ((o) - 128)

#define IDLE 0
#define SINGLE 1
#define STATE(q, p) ((q) * 2 + (p))
#define PHASE(st) ((st) % 2)
#define CURRENT LOCK(state / 2)

#ifdef MUT_NO_SEQ
#define DECIDED(q) 64
#else
#define DECIDED(q) (64 + (q))
#endif
#define BACK(q) (96 + (q))
#define IS_VERSION(x) ((x) != 0 && (x) < 64)

byte orec = 1;
byte word;
bool token;

byte state;
byte wv;
byte base;
byte shadow;

/* ------------------------------------------------------------------------------------------ the world */

byte truth;
bool decided; /* this attempt */
byte words;   /* written so far */
bool dead;
bool stopped;
bool over; /* the writer has come to its end, and what it left is recovered */
byte relapses = RELAPSES;

inline unlock(v)
{
    assert(IS_LOCK(orec) && word == truth);
    orec = v
}

inline decide()
{
    if
    :: decided
    :: else -> assert(orec == CURRENT && word == truth); decided = true; truth = shadow
    fi
}

mtype = {
    READ, CLEAR, ANNOUNCE, ACQUIRE, LOOK, PEEK, GIVE_BACK, RELEASE, VERSION, STORE, UNLOCK, LEAVE, IDLING, HELD_UP,
    LOAD, SECOND_LOOK, TOKEN, MARK, THROUGH, CHECK, FIND, SWAP, WAIT,
    TAKE, VALIDATE, GIVE_UP,
    DEATH, OVER
}

#ifdef MUT_BACK_PLAIN
#define AFTER_LOOK GIVE_BACK
#elif defined(MUT_BACK_SILENT)
#define AFTER_LOOK RELEASE
#else
#define AFTER_LOOK PEEK
#endif

proctype writer(byte ops; byte deaths; byte stops)
{
    mtype at = READ;
    byte seen;

    do
    :: atomic { at == READ && ops == 0 -> over = true; at = OVER }
    :: atomic { at == READ && ops > 0 && !IS_LOCK(orec) -> seen = orec; at = CLEAR }
    :: atomic {
           at == CLEAR ->
           base = seen;
           words++;
           shadow = words;
           seen = 0;
#ifndef MUT_WV_STALE
           wv = 0;
#endif
           at = ANNOUNCE
       }
    :: atomic {
           at == ANNOUNCE ->
           assert(state / 2 < 31);
           state = STATE(state / 2 + 1, SINGLE);
           decided = false;
           at = ACQUIRE
       }
    :: atomic {
           at == ACQUIRE ->
           if
           :: orec == base -> orec = CURRENT; at = LOOK
           :: else -> at = IDLING
           fi
       }
#ifdef MUT_NO_LOOK
    :: atomic { at == LOOK -> at = VERSION }
#else
    :: atomic { at == LOOK -> at = (token -> AFTER_LOOK : VERSION) }
#endif
    :: atomic { at == PEEK -> seen = wv; at = (seen == DECIDED(state / 2) -> VERSION : GIVE_BACK) }
    :: atomic {
           at == GIVE_BACK ->
           if
#ifdef MUT_BACK_PLAIN
           :: true -> wv = BACK(state / 2); at = RELEASE
#else
           :: wv == seen -> wv = BACK(state / 2); at = RELEASE
           :: else -> at = PEEK
#endif
           fi;
           seen = 0
       }
    :: atomic {
           at == RELEASE ->
           if
#ifdef MUT_RELEASE_BLIND
           :: true -> unlock(base)
#else
           :: orec == CURRENT -> unlock(base)
           :: else
#endif
           fi;
           at = IDLING
       }
    :: atomic { at == IDLING -> state = STATE(state / 2, IDLE); at = HELD_UP }
    :: atomic { at == HELD_UP && !token -> at = READ }
    :: atomic { at == VERSION -> seen = 0; decide(); wv = base + 1; at = STORE }
    :: atomic { at == STORE -> word = shadow; at = UNLOCK }
    :: atomic { at == UNLOCK -> assert(orec == CURRENT); unlock(wv); at = LEAVE }
    :: atomic { at == LEAVE -> assert(decided); state = STATE(state / 2, IDLE); ops--; at = READ }
    :: atomic { deaths > 0 && at != OVER -> dead = true; deaths = 0; stops = 0; ops = 0; seen = 0; at = OVER }
    :: atomic {
           stops > 0 && at != OVER ->
           stopped = true;
           over = true;
           deaths = 0; stops = 0; ops = 0; seen = 0;
           at = OVER
       }
    :: at == OVER -> break
    od
}

/* Another writer, whose own steps would only be the same again. */
proctype rival(byte writes)
{
    do
    :: atomic { writes > 0 && !IS_LOCK(orec) && !token -> writes--; words++; word = words; truth = words; orec++ }
    :: over -> writes = 0; break
    od
}

/* ------------------------------------------------------------------------------------------ readers */

#ifdef MUT_NO_SEQ
#define IS_MINE(x) ((x) == DECIDED(0))
#else
#define IS_MINE(x) ((x) == DECIDED(SEQ(lock)))
#endif
#define SETTLED(x) (IS_VERSION(x) || IS_MINE(x) || (x) == BACK(SEQ(lock)))

#ifdef MUT_MARK_HASTY
#define FIRST_LOOK SECOND_LOOK
#define AFTER_LOAD (SETTLED(seen) -> (seen == BACK(SEQ(lock)) -> FIND : THROUGH) : TOKEN)
#define AFTER_SECOND LOAD
#else
#define FIRST_LOOK LOAD
#define AFTER_LOAD SECOND_LOOK
#define AFTER_SECOND (SETTLED(seen) -> (seen == BACK(SEQ(lock)) -> FIND : THROUGH) : TOKEN)
#endif

proctype reader()
{
    mtype at = READ;
    byte lock, seen, found;

    do
    :: atomic {
           at == READ ->
           if
           :: IS_LOCK(orec) -> lock = orec; at = FIRST_LOOK
           :: else -> at = OVER
           fi
       }
    :: atomic { at == LOAD -> seen = wv; at = AFTER_LOAD }
    :: atomic {
           at == SECOND_LOOK ->
           if
           :: state == STATE(SEQ(lock), SINGLE) -> at = AFTER_SECOND
           :: else -> lock = 0; seen = 0; at = READ
           fi
       }
#ifdef MUT_MARK_ANYWAY
    :: atomic { at == TOKEN -> at = MARK }
#else
    :: atomic { at == TOKEN -> at = (token -> WAIT : MARK) }
#endif
    :: atomic {
           at == MARK ->
           if
           :: wv == seen ->
              wv = DECIDED(SEQ(lock));
              if
              :: orec == lock -> decide()
              :: else
              fi;
              at = THROUGH
           :: else -> at = FIRST_LOOK
           fi;
           seen = 0
       }
    :: atomic { at == THROUGH -> seen = 0; found = shadow; at = CHECK }
    :: atomic {
           at == CHECK ->
           if
#ifdef MUT_THROUGH_UNCHECKED
           :: true ->
#else
           :: orec == lock ->
#endif
              assert(decided && found == truth);
              at = OVER
#ifndef MUT_THROUGH_UNCHECKED
           :: else -> at = READ
#endif
           fi;
           lock = 0;
           found = 0
       }
    :: atomic { at == FIND -> seen = 0; found = base; at = SWAP }
    :: atomic {
           at == SWAP ->
           if
           :: orec == lock -> unlock(found)
           :: else
           fi;
           lock = 0;
           found = 0;
           at = READ
       }
    :: atomic {
           at == WAIT && (!token || orec != lock || SETTLED(wv)) ->
           lock = 0;
           seen = 0;
           at = READ
       }
    :: at == OVER -> break
    od
}

/* ------------------------------------------------------------------------------------------ the elder */

proctype elder(byte terms)
{
    mtype at = TAKE;
    byte seen;

    do
    :: atomic { at == TAKE && terms > 0 -> token = true; terms--; at = READ }
    :: atomic { at == TAKE && (terms == 0 || over) -> terms = 0; at = OVER }
    :: atomic { at == READ && !IS_LOCK(orec) -> seen = orec; at = VALIDATE }
    :: atomic { at == VALIDATE && !IS_LOCK(orec) -> assert(orec == seen); at = GIVE_UP }
    /* It waits for one that has stopped: the lease ends. */
    :: atomic { (at == READ || at == VALIDATE) && IS_LOCK(orec) && stopped -> at = GIVE_UP }
    :: atomic { at == GIVE_UP -> token = false; seen = 0; at = TAKE }
    :: at == OVER -> break
    od
}

/* ------------------------------------------------------------------------------------------ death */

proctype reaper()
{
    mtype at = DEATH;
    byte seen;
    bool happened;

    do
    :: atomic { at == DEATH && over -> at = OVER }
    :: atomic {
           at == DEATH && dead && !over ->
           if
           :: PHASE(state) == IDLE -> over = true
           :: else -> at = LOAD
           fi
       }
    :: atomic {
           at == LOAD ->
           seen = wv;
           if
           :: IS_VERSION(seen) || seen == DECIDED(state / 2) -> happened = true; at = STORE
#ifdef MUT_RECOVER_DECIDES
           :: !IS_VERSION(seen) && seen != DECIDED(state / 2) && seen != BACK(state / 2) && orec == CURRENT ->
              happened = true;
              decide();
              wv = base + 1;
              at = STORE
           :: seen == BACK(state / 2) || (!IS_VERSION(seen) && seen != DECIDED(state / 2) && orec != CURRENT) ->
              at = RELEASE
#else
           :: seen == BACK(state / 2) -> at = RELEASE
           :: !IS_VERSION(seen) && seen != DECIDED(state / 2) && seen != BACK(state / 2) ->
#ifdef MUT_RECOVER_BACK_SILENT
              at = RELEASE
#else
              at = GIVE_BACK
#endif
#endif
           fi
       }
    :: atomic {
           at == GIVE_BACK ->
           if
#ifdef MUT_RECOVER_BACK_PLAIN
           :: true -> wv = BACK(state / 2); at = RELEASE
#else
           :: wv == seen -> wv = BACK(state / 2); at = RELEASE
           :: else -> at = LOAD
#endif
           fi
       }
    :: atomic {
           at == RELEASE ->
           if
           :: orec == CURRENT -> unlock(base)
           :: else
           fi;
           at = LEAVE
       }
    :: atomic {
           at == STORE ->
           if
           :: orec == CURRENT -> word = shadow; at = UNLOCK
           :: else -> at = LEAVE
           fi
       }
    :: atomic { at == UNLOCK -> unlock(base + 1); at = LEAVE }
    :: atomic {
           at == LEAVE ->
           assert(happened == decided); /* so it frees the right ones */
           state = STATE(state / 2, IDLE);
           over = true;
           seen = 0;
           happened = false;
           at = DEATH
       }
    :: atomic { at != DEATH && at != OVER && relapses > 0 -> relapses--; seen = 0; happened = false; at = DEATH }
    :: at == OVER -> break
    od
}

init
{
    byte r;

    atomic {
        run writer(OPS, DEATHS, STOPS);
        run rival(RIVAL);
        do
        :: r < READERS -> run reader(); r++
        :: else -> r = 0; break
        od;
        run elder(TERMS);
        run reaper()
    }
}
