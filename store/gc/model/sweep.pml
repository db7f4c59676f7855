/*
 * sweep.pml: a block's lives, between those who take and free it and those who judge it.
 *
 * One block of one slab, and one word of the root that may refer to it. Its owner takes it from the slab's list, names it
 * in the log, writes its header, and links it or gives it back; anyone unlinks it, freeing it or leaving it to the
 * collector. Helpers run cycles: they shade what slots name, mark what is linked, take the head out of use (if HEADS, or else the block is
 * an inner node or a box), claim the slab, judge the block and free it. Any step may be late, until another cycle
 * even; anyone may die before any step, and is recovered.
 *
 *   alive     what is linked, being taken or named in a living log is not freed or taken out of use by a collector
 *   once      what is freed was in use; what is put on the list was on none
 *   finished  nobody waits for anybody; after one more cycle, when all is quiet, the block is linked or on the list
 */
#ifndef HEADS
#define HEADS 1
#endif
#ifndef HELPERS
#define HELPERS 2
#endif
#ifndef OPS
#define OPS 1 /* of the owner */
#endif
#ifndef OTHERS
#define OTHERS 0 /* operations of the other mutator */
#endif
#ifndef CYCLES
#define CYCLES 1
#endif
#ifndef RELAPSES
#define RELAPSES 1
#endif
#ifndef DEATHS
#define DEATHS 0
#endif

/* ------------------------------------------------------------------------------------------ shared memory */

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
#define MARKING(g) (PHASE(g) >= ARM && PHASE(g) <= MARK)
short gc;

#define WHITE 0
#define GRAY 1
#define BLACK 2
byte mark_cycle;
byte mark_colour;
#define COLOUR(c) (mark_cycle == (c) -> mark_colour : WHITE)

/* The header: free, or a kind and a birth. */
#define FREE 0
#define DYING 1
#define LIVE 2
byte header;
byte births;
#define IS_LIVE(h) ((h) >= LIVE)

bool on_list;
bool owned = true; /* the slab by mutator 0 */
bool lost;         /* its owner or its sweeper has died: blocks may be on no list */
byte claim_cycle;
byte claim_by; /* helper + 1; 0: swept */
bool sweeping[HELPERS];

bool linked;
bool locked;
byte lock_of; /* mutator + 1 */

#define LOCKING 1
#define COMMITTED 2
byte state[2];
bool log_new[2];
bool log_free[2];
bool taking;
bool freeing[2];

/* ------------------------------------------------------------------------------------------ the world */

byte busy = 2 + HELPERS;
bool quiet;
bool dead[2];
bool helper_dead[HELPERS];
byte deaths = DEATHS;

inline shade(c)
{
    if
    :: IS_LIVE(header) && (mark_cycle < c || (mark_cycle == c && mark_colour == WHITE)) ->
       mark_cycle = c;
       mark_colour = GRAY
    :: else
    fi
}

inline blacken(c)
{
    if
    :: mark_cycle <= c -> mark_cycle = c; mark_colour = BLACK
    :: else
    fi
}

/* By a collector. */
inline condemn(h)
{
    assert(header != FREE && !linked && (!taking || !owned || dead[0]) && !log_new[0]);
    assert(!(log_free[0] && state[0] == COMMITTED) && !(log_free[1] && state[1] == COMMITTED));
    assert(!freeing[0] && !freeing[1]);
    header = h
}

inline push()
{
    assert(header == FREE && !on_list);
    on_list = true
}

mtype = {
    CHOOSE, POP, LOOK, MARK_NEW, NAME, HEADER, LOOK_AGAIN, MARK_AGAIN, TAKEN, DECIDE_WHAT,
    LOCK, C_LOOK, C_SHADE, DECIDE, STORE, FREE_1, FREE_2, FREE_3, FREE_4, FREE_5, CUT, FAIL,
    ARM_STATE, ARM_SHADE, ROOT_NEW, ROOT_FREE, ROOT_TAKING, ROOT_FREEING, ROOT_SHADE, NEXT,
    LINK, LINK_SHADE, VISIT, BUMP, BLACKEN, PASS_END,
    K_HEADER, K_GC, K_TAKING, K_MARK, K_SWAP, K_END,
    ANNOUNCE, CLAIM, J_HEADER, J_GC, J_TAKING, J_MARK, J_FREE, J_PUSH, M_HEADER, M_FREEING, M_LIST, UNCLAIM, UNSAY, S_END,
    REST, DEAD, OVER
}

#ifdef HEADER_FIRST
#define AFTER_MARK HEADER
#define AFTER_NAME LOOK_AGAIN
#define AFTER_HEADER NAME
#else
#define AFTER_MARK NAME
#define AFTER_NAME HEADER
#define AFTER_HEADER LOOK_AGAIN
#endif

proctype mutator(byte me; byte ops)
{
    mtype at = CHOOSE;
    short my;
    bool links;

    do
    :: atomic { at == CHOOSE && ops == 0 -> owned = (me == 0 -> false : owned); busy--; at = OVER } /* lets go of the slab */
    :: atomic { at == CHOOSE && ops > 0 -> ops-- }
    /* taking */
    :: atomic { at == CHOOSE && ops > 0 && me == 0 && on_list ->
           ops--;
#ifndef MUT_NO_TAKING
           taking = true;
#endif
           at = POP
       }
    :: atomic { at == POP -> on_list = false; at = LOOK }
    :: atomic { at == LOOK -> my = gc; at = (PHASE(my) == IDLE -> AFTER_MARK : MARK_NEW) }
#ifdef MUT_NOT_BLACK
    :: atomic { at == MARK_NEW -> at = AFTER_MARK }
#else
    :: atomic { at == MARK_NEW -> blacken(CYCLE(my)); at = AFTER_MARK }
#endif
    :: atomic { at == NAME -> log_new[me] = true; at = AFTER_NAME }
    :: atomic { at == HEADER -> assert(header == FREE); births++; header = LIVE + births; at = AFTER_HEADER }
#ifdef MUT_NO_SECOND_LOOK
    :: atomic { at == LOOK_AGAIN -> at = TAKEN }
#else
    :: atomic {
           at == LOOK_AGAIN ->
           if
           :: gc != my && PHASE(gc) != IDLE -> my = gc; at = MARK_AGAIN
           :: else -> at = TAKEN
           fi
       }
#endif
    :: atomic { at == MARK_AGAIN -> blacken(CYCLE(my)); at = TAKEN }
    :: atomic { at == TAKEN -> my = 0; taking = false; at = DECIDE_WHAT }
    :: atomic { at == DECIDE_WHAT -> links = true; state[me] = LOCKING; at = LOCK }
    :: atomic { at == DECIDE_WHAT -> at = FREE_1 }
    /* unlinking */
    :: atomic { at == CHOOSE && ops > 0 && linked -> ops--; state[me] = LOCKING; at = LOCK }
    :: atomic { at == CHOOSE && ops > 0 && linked -> ops--; log_free[me] = true; state[me] = LOCKING; at = LOCK }
    /* committing */
    :: atomic {
           at == LOCK ->
           if
           :: !locked && linked != links -> locked = true; lock_of = me + 1; at = C_LOOK
           :: else -> at = FAIL
           fi
       }
    :: atomic { at == C_LOOK -> my = gc; at = (MARKING(my) -> C_SHADE : DECIDE) }
    :: atomic {
           at == C_SHADE ->
#ifdef MUT_NO_OLD
           if
           :: links -> shade(CYCLE(my))
           :: else
           fi;
#else
           shade(CYCLE(my));
#endif
           at = DECIDE
       }
    :: atomic { at == DECIDE -> my = 0; state[me] = COMMITTED; at = STORE }
    :: atomic {
           at == STORE ->
           linked = links;
           if
           :: links -> log_new[me] = false /* (with the state: a log counts as one) */
           :: else
           fi;
           locked = false;
           lock_of = 0;
           links = false;
           at = (log_free[me] -> FREE_1 : CUT)
       }
    :: atomic { at == CUT -> state[me] = IDLE; at = CHOOSE }
    :: atomic { at == FAIL -> state[me] = IDLE; log_free[me] = false; links = false; at = (log_new[me] -> FREE_1 : CHOOSE) }
    /* freeing */
#ifdef MUT_WIPE_FIRST
    :: atomic { at == FREE_1 -> log_new[me] = false; log_free[me] = false; at = FREE_2 }
    :: atomic { at == FREE_2 -> freeing[me] = true; at = FREE_3 }
#else
#ifdef MUT_NO_FREEING
    :: atomic { at == FREE_1 -> at = FREE_2 }
#else
    :: atomic { at == FREE_1 -> freeing[me] = true; at = FREE_2 }
#endif
    :: atomic { at == FREE_2 -> log_new[me] = false; log_free[me] = false; at = FREE_3 }
#endif
    :: atomic { at == FREE_3 -> assert(IS_LIVE(header)); header = FREE; at = FREE_4 }
    :: atomic { at == FREE_4 -> push(); at = FREE_5 }
    :: atomic { at == FREE_5 -> freeing[me] = false; at = CUT }
    /* dying */
    :: atomic { deaths > 0 && at != OVER -> deaths--; dead[me] = true; my = 0; ops = 0; links = false; at = OVER }
    :: at == OVER -> break
    od
}

proctype helper(byte me)
{
    mtype at = LOOK;
    short my;
    byte s, seen;
    bool found;

    do
    :: atomic {
           at == LOOK ->
           my = gc; s = 0; seen = 0; found = false;
           if
           :: PHASE(my) == IDLE && CYCLE(my) >= CYCLES -> my = 0; busy--; at = REST
           :: PHASE(my) == IDLE && CYCLE(my) < CYCLES -> gc = GC(CYCLE(my) + 1, 0, ARM); my = 0
           :: PHASE(my) == ARM -> at = ARM_STATE
           :: PHASE(my) == ROOTS -> at = ROOT_NEW
           :: PHASE(my) == MARK -> at = LINK
           :: PHASE(my) == KILL -> at = (HEADS -> K_HEADER : K_END)
           :: PHASE(my) == SWEEP -> at = ANNOUNCE
           fi
       }
    /* ARM */
#ifdef NO_ARM
    :: atomic { at == ARM_STATE -> s = 1; at = NEXT }
#else
    :: atomic { at == ARM_STATE -> at = (state[s] == IDLE -> NEXT : ARM_SHADE) }
#endif
    :: atomic {
           at == ARM_SHADE ->
           if
           :: log_new[s] || log_free[s] -> at = ROOT_SHADE
           :: else -> at = NEXT
           fi
       }
    /* ROOTS */
#ifdef MUT_FREEING_EARLY
    :: atomic { at == ROOT_NEW -> found = freeing[s]; at = ROOT_FREE }
    :: atomic {
           at == ROOT_FREE ->
           if
           :: log_free[s] || log_new[s] || found -> at = ROOT_SHADE
           :: else -> at = ROOT_TAKING
           fi;
           found = false
       }
    :: atomic { at == ROOT_TAKING -> at = (s == 0 && taking -> ROOT_SHADE : NEXT) }
#else
    :: atomic { at == ROOT_NEW -> at = (log_new[s] || log_free[s] -> ROOT_SHADE : ROOT_TAKING) }
#ifdef NO_TAKING_ROOT
    :: atomic { at == ROOT_TAKING -> at = ROOT_FREEING }
#else
    :: atomic { at == ROOT_TAKING -> at = (s == 0 && taking -> ROOT_SHADE : ROOT_FREEING) }
#endif
#ifdef MUT_FREEING_NO_ROOT
    :: atomic { at == ROOT_FREEING -> at = NEXT }
#else
    :: atomic { at == ROOT_FREEING -> at = (freeing[s] -> ROOT_SHADE : NEXT) }
#endif
#endif
    :: atomic { at == ROOT_SHADE -> shade(CYCLE(my)); at = NEXT }
    :: atomic {
           at == NEXT ->
           s++;
           if
           :: s == 2 ->
              if
              :: gc == my -> gc = GC(CYCLE(my), 0, (PHASE(my) == ARM -> ROOTS : MARK))
              :: else
              fi;
              my = 0; s = 0; at = LOOK
           :: else -> at = (PHASE(my) == ARM -> ARM_STATE : ROOT_NEW)
           fi
       }
    /* MARK */
    :: atomic { at == LINK -> at = (linked -> LINK_SHADE : VISIT) }
    :: atomic { at == LINK_SHADE -> shade(CYCLE(my)); at = VISIT }
    :: atomic { at == VISIT -> at = (COLOUR(CYCLE(my)) == GRAY -> BUMP : PASS_END) }
    :: atomic {
           at == BUMP ->
           if
           :: PHASE(gc) == MARK && CYCLE(gc) == CYCLE(my) -> gc = GC(CYCLE(gc), PASS(gc) + 1, MARK); at = BLACKEN
           :: else -> my = 0; at = LOOK
           fi
       }
    :: atomic {
           at == BLACKEN ->
           if
           :: COLOUR(CYCLE(my)) == GRAY -> mark_colour = BLACK
           :: else
           fi;
           my = 0; at = LOOK
       }
    :: atomic {
           at == PASS_END ->
           if
           :: gc == my -> gc = GC(CYCLE(my), 0, KILL)
           :: else
           fi;
           my = 0; at = LOOK
       }
    /* KILL */
#ifdef MUT_KILL_GC_EARLY
    :: atomic { at == K_HEADER -> seen = header; at = (IS_LIVE(seen) && gc == my -> K_TAKING : K_END) }
#else
    :: atomic { at == K_HEADER -> seen = header; at = (IS_LIVE(seen) -> K_TAKING : K_END) }
#endif
#ifdef MUT_KILL_TAKEN
    :: atomic { at == K_TAKING -> at = K_MARK }
#else
    :: atomic { at == K_TAKING -> at = (owned && taking -> K_END : K_MARK) }
#endif
    :: atomic { at == K_MARK -> at = (COLOUR(CYCLE(my)) != BLACK -> K_GC : K_END) }
#if defined(MUT_KILL_NO_GC) || defined(MUT_KILL_GC_EARLY)
    :: atomic { at == K_GC -> at = K_SWAP }
#else
    :: atomic { at == K_GC -> at = (gc == my -> K_SWAP : K_END) }
#endif
    :: atomic {
           at == K_SWAP ->
           if
#ifdef MUT_KILL_NO_BIRTH
           :: IS_LIVE(header) -> condemn(DYING)
#else
           :: header == seen -> condemn(DYING)
#endif
           :: else
           fi;
           at = K_END
       }
    :: atomic {
           at == K_END ->
           if
           :: gc == my -> gc = GC(CYCLE(my), 0, SWEEP)
           :: else
           fi;
           my = 0; seen = 0; at = LOOK
       }
    /* SWEEP */
    :: atomic {
           at == ANNOUNCE ->
           if
           :: claim_cycle == CYCLE(my) && claim_by == 0 -> at = S_END
           :: claim_cycle > CYCLE(my) -> my = 0; at = LOOK
#ifdef MUT_CLAIM_HELD
           :: claim_cycle <= CYCLE(my) && !(claim_cycle == CYCLE(my) && claim_by == 0) ->
#else
           :: claim_by != 0 && sweeping[claim_by - 1] && claim_cycle <= CYCLE(my) -> at = S_END /* another one's, who lives */
           :: !(claim_by != 0 && sweeping[claim_by - 1]) && claim_cycle <= CYCLE(my) &&
              !(claim_cycle == CYCLE(my) && claim_by == 0) ->
#endif
              s = claim_cycle; seen = claim_by; sweeping[me] = true; at = CLAIM
           fi
       }
    :: atomic {
           at == CLAIM ->
           if
           :: claim_cycle == s && claim_by == seen ->
              lost = lost || claim_by != 0;
              claim_cycle = CYCLE(my); claim_by = me + 1;
              at = J_HEADER
           :: else -> at = UNSAY
           fi;
           s = 0; seen = 0
       }
#ifdef MUT_JUDGE_GC_EARLY
    :: atomic { at == J_HEADER -> at = (header != FREE && gc == my -> J_TAKING : M_HEADER) }
#else
    :: atomic { at == J_HEADER -> at = (header != FREE -> J_TAKING : M_HEADER) }
#endif
#ifdef MUT_JUDGE_TAKEN
    :: atomic { at == J_TAKING -> at = J_MARK }
#elif defined(MUT_JUDGE_MARK_EARLY)
    :: atomic { at == J_TAKING -> at = (COLOUR(CYCLE(my)) != BLACK -> J_MARK : M_HEADER) }
#else
    :: atomic { at == J_TAKING -> at = (owned && taking -> M_HEADER : J_MARK) }
#endif
    :: atomic {
           at == J_MARK ->
#ifdef MUT_JUDGE_MARK_EARLY
           at = (owned && taking -> M_HEADER : J_GC)
#else
           at = (COLOUR(CYCLE(my)) != BLACK -> J_GC : M_HEADER)
#endif
       }
#if defined(MUT_JUDGE_NO_GC) || defined(MUT_JUDGE_GC_EARLY)
    :: atomic { at == J_GC -> at = J_FREE }
#else
    :: atomic { at == J_GC -> at = (gc == my -> J_FREE : M_HEADER) }
#endif
    :: atomic { at == J_FREE -> condemn(FREE); at = J_PUSH }
    :: atomic { at == J_PUSH -> push(); at = M_HEADER }
    /* lost blocks, if nobody owns the slab */
#ifdef MUT_NO_MEND
    :: atomic { at == M_HEADER -> at = UNCLAIM }
#else
    :: atomic { at == M_HEADER -> at = (lost && !owned && header == FREE -> M_FREEING : UNCLAIM) }
#endif
#ifdef MUT_MEND_BLIND
    :: atomic { at == M_FREEING -> at = M_LIST }
#else
    :: atomic { at == M_FREEING -> at = (freeing[0] || freeing[1] -> UNCLAIM : M_LIST) }
#endif
    :: atomic {
           at == M_LIST ->
           if
           :: on_list
           :: else -> push()
           fi;
           lost = false;
           at = UNCLAIM
       }
    :: atomic { at == UNCLAIM -> assert(claim_by == me + 1); claim_by = 0; at = UNSAY }
    :: atomic { at == UNSAY -> sweeping[me] = false; at = S_END }
    :: atomic {
           at == S_END ->
           if
           :: gc == my -> gc = GC(CYCLE(my), 0, IDLE)
           :: else
           fi;
           my = 0;
           at = (quiet -> OVER : LOOK);
           if
           :: quiet -> assert(linked != on_list && (header == FREE) == on_list)
           :: else
           fi
       }
    /* all at rest: one of them runs the last cycle */
    :: atomic { at == REST && quiet -> at = OVER }
    :: atomic { at == REST && busy == 0 && !quiet -> quiet = true; gc = GC(CYCLE(gc) + 1, 0, ARM); at = LOOK }
    /* dying */
    :: atomic {
           HELPERS > 1 && deaths > 0 && at != OVER && at != REST ->
           deaths--; helper_dead[me] = true; my = 0; s = 0; seen = 0; found = false; at = OVER
       }
    :: at == OVER -> break
    od
}

#if DEATHS > 0
/* Recovers the dead. */
proctype reaper()
{
    mtype at = REST;
    short my;
    byte s, relapses = RELAPSES;

    do
    :: atomic { at == REST && quiet -> at = OVER }
    :: atomic { at == REST && helper_dead[0] -> helper_dead[0] = false; s = 0; at = UNSAY }
    :: atomic { at == REST && HELPERS > 1 && helper_dead[HELPERS - 1] -> helper_dead[HELPERS - 1] = false; s = HELPERS - 1; at = UNSAY }
    :: atomic { at == UNSAY -> sweeping[s] = false; busy--; s = 0; at = REST }
    :: atomic { at == REST && dead[0] -> s = 0; at = LOOK }
#ifdef MUT_RECOVER_NO_MARK
    :: atomic { at == LOOK -> at = STORE }
#else
    :: atomic { at == LOOK -> my = gc; at = (taking && PHASE(my) != IDLE -> MARK_AGAIN : STORE) }
#endif
    :: atomic { at == MARK_AGAIN -> blacken(CYCLE(my)); at = STORE }
    :: atomic { at == REST && dead[1] -> s = 1; at = STORE }
    :: atomic {
           at == STORE ->
           /* (the lock is this slot's if it has come so far) */
           if
           :: state[s] == COMMITTED && lock_of == s + 1 -> linked = log_new[s]; locked = false; lock_of = 0; log_new[s] = false
           :: state[s] == LOCKING -> log_free[s] = false; locked = (lock_of == s + 1 -> false : locked); lock_of = (lock_of == s + 1 -> 0 : lock_of)
           :: else
           fi;
           my = 0;
           at = (log_new[s] || log_free[s] -> FREE_1 : CUT)
       }
    :: atomic { at == FREE_1 -> freeing[s] = true; at = FREE_2 }
    :: atomic { at == FREE_2 -> log_new[s] = false; log_free[s] = false; at = FREE_3 }
    :: atomic { at == FREE_3 -> header = FREE; at = FREE_4 }
    :: atomic { at == FREE_4 -> push(); at = FREE_5 }
    :: atomic { at == FREE_5 -> freeing[s] = false; at = CUT }
    :: atomic {
           at == CUT ->
           state[s] = IDLE;
           if
           :: s == 0 -> owned = false
           :: else
           fi;
           lost = true;
           at = TAKEN
       }
    :: atomic { at == TAKEN -> taking = (s == 0 -> false : taking); freeing[s] = false; dead[s] = false; busy--; s = 0; at = REST }
    /* who recovers dies, too, and the next one begins anew */
    :: atomic { relapses > 0 && at != REST && at != UNSAY && at != OVER -> relapses--; my = 0; at = LOOK }
    :: at == OVER -> break
    od
}
#endif

init
{
    byte i;

    atomic {
        if
        :: on_list = true
        :: linked = true; header = LIVE
        :: header = LIVE /* garbage */
        fi;
        run mutator(0, OPS);
        run mutator(1, OTHERS);
        for (i : 0 .. HELPERS - 1) { run helper(i) }
#if DEATHS > 0
        run reaper();
#endif
        i = 0
    }
}
