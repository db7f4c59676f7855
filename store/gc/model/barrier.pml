/*
 * barrier.pml: marking beside mutators.
 *
 *     root R: r[0] -> inner node A: w -> object X       r[1]: nothing, or X
 *
 * Mutators read X into a hold, pin it, and commit changes: they store, remove, move and copy the reference, and replace
 * A by a new node with what A held, or without. What they free is free at once. Helpers run one cycle after the other,
 * each beginning at any time; KILL and SWEEP are one step here, at which everything that is not black is freed.
 *
 *   alive     nothing that can be reached from the root, from what somebody holds or has pinned, or from a log is freed
 *   once      nothing is freed that somebody is about to free
 *   finished  nobody waits; marking ends; a cycle that begins when all is quiet leaves nothing unreachable
 */
#define MUTATORS 2
#ifndef HELPERS
#define HELPERS 1
#endif
#ifndef OPS
#define OPS 1
#endif
#ifndef OPS_B
#define OPS_B OPS
#endif
#ifndef FIRST
#define FIRST 63 /* bit n: begin number n (see init) */
#endif
#define AT_FIRST(n) ((FIRST >> (n)) & 1)
#ifndef CYCLES
#define CYCLES 1
#endif

/* ------------------------------------------------------------------------------------------ shared memory */

#define NIL 0
#define R 1
#define A 2 /* inner nodes: A and B */
#define B 3
#define X 4
#define KEEP 7 /* in a log: this word does not change */

#define IDLE 0
#define ARM 1
#define ROOTS 2
#define MARK 3
#define GC(cycle, pass, phase) ((cycle) * 128 + (pass) * 4 + (phase))
#define PHASE(g) ((g) % 4)
#define CYCLE(g) ((g) / 128)
#define PASS(g) ((g) / 4 % 32)
short gc;

#define WHITE 0
#define GRAY 1
#define BLACK 2
byte mark_cycle[5];
byte mark_colour[5];
#define COLOUR(b, c) (mark_cycle[b] == (c) -> mark_colour[b] : WHITE)

#define FREE 0
#define LIVE 1
byte header[5];
byte version[5];
bool locked[5];
byte r[2];
byte w[5];

/* A process's roots; its log: state, new words, which inner node they are in, block taken, block to be freed. */
byte pin[MUTATORS];
byte hold[MUTATORS];
byte taking[MUTATORS];
byte freeing[MUTATORS];

#define LOCKING 1
#define COMMITTED 2
byte state[MUTATORS];
byte log_r0[MUTATORS] = KEEP;
byte log_r1[MUTATORS] = KEEP;
byte log_w[MUTATORS] = KEEP;
byte log_node[MUTATORS];
byte log_new[MUTATORS];
bool log_on[MUTATORS];
byte log_free[MUTATORS];

/* ------------------------------------------------------------------------------------------ the world */

byte actors = MUTATORS;
bool quiet; /* nobody was active when the cycle began */
bool relied[MUTATORS]; /* the hold has been given to the caller */

inline shade(b, c)
{
    if
    :: b != NIL && b != KEEP && (mark_cycle[b] < c || (mark_cycle[b] == c && mark_colour[b] == WHITE)) ->
       mark_cycle[b] = c;
       mark_colour[b] = GRAY
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

/* What can be reached (met: bit b for block b), taking what is decided for done. */
hidden byte met, e0, e1, ew, eb, m_;
#define HAS(b) ((met >> (b)) & 1)
#define ADD(b) met = met | (1 << (b))
inline reach()
{
    met = 0;
    e0 = r[0];
    e1 = r[1];
    ew = w[A];
    eb = w[B];
    for (m_ : 0 .. MUTATORS - 1) {
        if
        :: state[m_] == COMMITTED ->
           e0 = (log_r0[m_] != KEEP -> log_r0[m_] : e0);
           e1 = (log_r1[m_] != KEEP -> log_r1[m_] : e1);
           ew = (log_w[m_] != KEEP && log_node[m_] == A -> log_w[m_] : ew);
           eb = (log_w[m_] != KEEP && log_node[m_] == B -> log_w[m_] : eb)
        :: else
        fi
    }
    ADD(R);
    ADD(e0);
    ADD(e1);
    for (m_ : 0 .. MUTATORS - 1) {
        ADD(pin[m_]);
        ADD((relied[m_] -> hold[m_] : NIL));
        ADD(log_new[m_]);
        ADD(taking[m_]);
        ADD(freeing[m_]);
        ADD((state[m_] == COMMITTED -> log_free[m_] : NIL))
    }
    if
    :: e0 == A -> ADD(ew)
    :: e0 == B -> ADD(eb)
    :: else
    fi
}

#ifdef MUT_NO_OLD
#define SHADE_OLD(b, c) skip
#else
#define SHADE_OLD(b, c) shade(b, c)
#endif
#ifdef MUT_NO_NEW
#define SHADE_NEW(b, c) skip
#else
#define SHADE_NEW(b, c) shade(b, c)
#endif
#ifdef NO_FREED
#define SHADE_FREED(b, c) skip
#else
#define SHADE_FREED(b, c) shade(b, c)
#endif
#ifdef MUT_NO_LOST
#define SHADE_LOST(b, c) skip
#else
#define SHADE_LOST(b, c) shade(b, c)
#endif
#ifdef MUT_NO_CONTENTS
#define SHADE_CONTENTS(b, c) skip
#else
#define SHADE_CONTENTS(b, c) shade(b, c)
#endif

mtype = {
    CHOOSE, READ_R, READ_NODE, HOLD, VALID, LOOK, SHADE, HELD, PIN_LOOK, PIN_SHADE, UNHOLD,
    LOGGED, LOG_SHADING, TAKE, MARK_NEW, HEADER, AGAIN, ANNOUNCE, LOCK, C_LOOK, C_SHADE, VALIDATE, DECIDE,
    STORE_0, STORE_1, STORE_W, UNLOCK, FREE_1, FREE_2, CUT, FAIL,
    SLOT, ROOT, PASS_BEGIN, VISIT, CHILD, BUMP, BLACKEN, PASS_END, JUDGE, FINISH, OVER
}

#ifdef SHADE_FIRST
#define AFTER_HOLD LOOK
#define AFTER_SHADE VALID
#define AFTER_VALID HELD
#else
#define AFTER_HOLD VALID
#define AFTER_VALID LOOK
#define AFTER_SHADE HELD
#endif
#define MARKING(g) (PHASE(g) != IDLE)

proctype mutator(byte me; byte ops)
{
    mtype at = CHOOSE;
    short my;
    byte node, value, rv, nv, k;
    bool deep, copies, fresh;

    do
    :: atomic {
           at == CHOOSE && ops == 0 ->
           hold[me] = NIL; pin[me] = NIL; relied[me] = false;
           actors--;
           at = OVER
       }
    /* reading */
    :: atomic { at == CHOOSE && ops > 0 && hold[me] == NIL -> ops--; deep = true; at = READ_R }
    :: atomic { at == CHOOSE && ops > 0 && hold[me] == NIL -> ops--; deep = false; at = READ_R }
    :: atomic {
           at == READ_R ->
           if
           :: locked[R] -> at = CHOOSE
           :: !locked[R] && deep && r[0] != NIL -> rv = version[R]; node = r[0]; at = READ_NODE
           :: !locked[R] && !deep && r[1] != NIL -> rv = version[R]; node = R; nv = rv; value = r[1]; at = HOLD
           :: else -> at = CHOOSE
           fi;
           deep = false
       }
    :: atomic {
           at == READ_NODE ->
           if
           :: locked[node] || header[node] != LIVE || w[node] == NIL -> node = NIL; rv = 0; at = CHOOSE
           :: else -> nv = version[node]; value = w[node]; at = HOLD
           fi
       }
    :: atomic { at == HOLD -> hold[me] = value; at = AFTER_HOLD }
    :: atomic {
           at == VALID ->
           if
           :: !locked[R] && version[R] == rv && !locked[node] && version[node] == nv -> at = AFTER_VALID
           :: else -> hold[me] = NIL; value = NIL; my = 0; at = CHOOSE
           fi;
           node = NIL; rv = 0; nv = 0
       }
    :: atomic { at == LOOK -> my = gc; at = (MARKING(my) -> SHADE : AFTER_SHADE) }
#ifdef NO_HOLD_SHADE
    :: atomic { at == SHADE -> at = AFTER_SHADE }
#else
    :: atomic { at == SHADE -> shade(value, CYCLE(my)); at = AFTER_SHADE }
#endif
    :: atomic { at == HELD -> value = NIL; my = 0; relied[me] = true; at = CHOOSE }
    /* pinning */
    :: atomic { at == CHOOSE && ops > 0 && hold[me] != NIL && pin[me] == NIL -> pin[me] = hold[me]; at = PIN_LOOK }
#ifdef NO_PIN_SHADE
    :: atomic { at == PIN_LOOK -> at = UNHOLD }
#else
    :: atomic { at == PIN_LOOK -> my = gc; at = (MARKING(my) -> PIN_SHADE : UNHOLD) }
#endif
    :: atomic { at == PIN_SHADE -> shade(pin[me], CYCLE(my)); at = UNHOLD }
    :: atomic { at == UNHOLD -> hold[me] = NIL; relied[me] = false; my = 0; at = CHOOSE }
    :: atomic { at == CHOOSE && pin[me] != NIL -> pin[me] = NIL }
    :: atomic { at == CHOOSE && hold[me] != NIL -> hold[me] = NIL; relied[me] = false }
    /* writing */
    :: atomic {
           at == CHOOSE && ops > 0 && !locked[R] && (r[0] == NIL || !locked[r[0]]) ->
           ops--;
           node = r[0]; rv = version[R]; nv = version[node];
           value = (pin[me] != NIL -> pin[me] : hold[me]);
           at = LOGGED;
           if
           :: value != NIL && r[1] == NIL -> log_r1[me] = value; node = NIL /* store */
           :: value != NIL && node != NIL && w[node] == NIL -> log_w[me] = value /* ... in the node */
           :: r[1] != NIL -> log_r1[me] = NIL; node = NIL /* remove */
           :: node != NIL && w[node] != NIL -> log_r1[me] = w[node]; log_w[me] = NIL /* move */
           :: node != NIL && r[1] != NIL -> log_w[me] = r[1]; log_r1[me] = NIL /* move back */
           :: node != NIL && w[node] != NIL -> log_r1[me] = w[node]; copies = true /* copy */
           :: node != NIL && w[node] != NIL -> log_r1[me] = w[node]; log_r0[me] = NIL; log_free[me] = node /* move, free */
           :: node != NIL -> log_r0[me] = NIL; log_free[me] = node /* free */
           :: node != NIL -> fresh = true /* replace */
           :: node == NIL && value == NIL && r[1] == NIL -> at = CHOOSE; rv = 0
           fi;
           log_node[me] = (copies -> NIL : node);
           if
           :: fresh -> value = w[node]; at = TAKE
           :: else -> log_on[me] = (at == LOGGED)
           fi;
           if
           :: !fresh
           /* by one with another reference */
           :: fresh && (pin[me] != NIL || hold[me] != NIL) -> value = (pin[me] != NIL -> pin[me] : hold[me])
           :: fresh
           fi
       }
#ifdef LOG_SHADE
    :: atomic {
           at == LOGGED ->
           if
           :: value != NIL && MARKING(gc) -> my = gc; at = LOG_SHADING
           :: else -> value = NIL; at = ANNOUNCE
           fi
       }
    :: atomic { at == LOG_SHADING -> shade(value, CYCLE(my)); value = NIL; my = 0; at = ANNOUNCE }
#else
    :: atomic { at == LOGGED -> value = NIL; at = ANNOUNCE }
#endif
    :: atomic {
           at == TAKE ->
           my = gc;
           if
           :: header[A] == FREE && taking[1 - me] != A && log_new[1 - me] != A -> taking[me] = A; at = MARK_NEW
           :: header[B] == FREE && taking[1 - me] != B && log_new[1 - me] != B -> taking[me] = B; at = MARK_NEW
           :: else -> fresh = false; value = NIL; at = FAIL
           fi
       }
    :: atomic {
           at == MARK_NEW ->
           if
           :: MARKING(my) -> blacken(taking[me], CYCLE(my))
           :: else
           fi;
           log_new[me] = taking[me];
           log_on[me] = true;
           at = HEADER
       }
    :: atomic { at == HEADER -> header[taking[me]] = LIVE; w[taking[me]] = value; at = AGAIN }
    :: atomic {
           at == AGAIN ->
           if
           :: gc != my && MARKING(gc) -> blacken(taking[me], CYCLE(gc))
           :: else
           fi;
           taking[me] = NIL; my = 0; fresh = false;
           log_r0[me] = log_new[me]; log_free[me] = node; log_node[me] = node;
           at = LOGGED
       }
    /* the transaction may stay open, and its caller lets go of what he holds */
    :: atomic { at == ANNOUNCE && pin[me] != NIL -> pin[me] = NIL }
    :: atomic { at == ANNOUNCE && hold[me] != NIL -> hold[me] = NIL; relied[me] = false }
    :: atomic { at == ANNOUNCE -> state[me] = LOCKING; at = LOCK }
    :: atomic {
           at == LOCK ->
           if
           :: !locked[R] && version[R] == rv &&
              (log_node[me] == NIL || (!locked[log_node[me]] && version[log_node[me]] == nv)) ->
              locked[R] = true;
              locked[log_node[me]] = (log_node[me] != NIL);
              at = C_LOOK
           :: else -> at = FAIL
           fi
       }
    :: atomic { at == C_LOOK -> my = gc; k = 0; at = (MARKING(my) -> C_SHADE : VALIDATE) }
    :: atomic {
           at == C_SHADE ->
           if
           :: k == 0 && log_r0[me] != KEEP -> SHADE_OLD(r[0], CYCLE(my)); SHADE_NEW(log_r0[me], CYCLE(my))
           :: k == 1 && log_r1[me] != KEEP -> SHADE_OLD(r[1], CYCLE(my))
           :: k == 2 && log_r1[me] != KEEP -> SHADE_NEW(log_r1[me], CYCLE(my))
           :: k == 3 && log_w[me] != KEEP -> SHADE_OLD(w[node], CYCLE(my))
           :: k == 4 && log_w[me] != KEEP -> SHADE_NEW(log_w[me], CYCLE(my))
           :: k == 5 && log_free[me] != NIL -> SHADE_FREED(log_free[me], CYCLE(my))
           :: k == 6 && log_free[me] != NIL -> SHADE_LOST(w[log_free[me]], CYCLE(my))
           :: k == 7 && log_new[me] != NIL -> SHADE_CONTENTS(w[log_new[me]], CYCLE(my))
           :: else
           fi;
           k++;
           /* what is not there takes no step */
           do
           :: k == 1 && (log_r1[me] == KEEP || r[1] == NIL) -> k = 2
           :: k == 2 && (log_r1[me] == KEEP || log_r1[me] == NIL) -> k = 3
           :: k == 3 && (log_w[me] == KEEP || w[node] == NIL) -> k = 4
           :: k == 4 && (log_w[me] == KEEP || log_w[me] == NIL) -> k = 5
           :: k == 5 && log_free[me] == NIL -> k = 7
           :: k == 7 && log_new[me] == NIL -> k = 8
           :: else -> break
           od;
           at = (k > 7 -> VALIDATE : C_SHADE)
       }
    :: atomic {
           at == VALIDATE ->
           my = 0; k = 0;
           if
           :: copies && (locked[node] || version[node] != nv) ->
              locked[R] = false;
              at = FAIL
           :: else -> at = DECIDE
           fi
       }
    :: atomic {
           at == DECIDE ->
           state[me] = COMMITTED;
           assert(log_r0[me] == KEEP || log_r0[me] == NIL || header[log_r0[me]] == LIVE);
           assert(log_r1[me] == KEEP || log_r1[me] == NIL || header[log_r1[me]] == LIVE);
           assert(log_w[me] == KEEP || log_w[me] == NIL || header[log_w[me]] == LIVE);
           assert(log_new[me] == NIL || w[log_new[me]] == NIL || header[w[log_new[me]]] == LIVE);
           assert(log_free[me] == NIL || header[log_free[me]] == LIVE);
           log_new[me] = NIL;
           at = (log_r0[me] != KEEP -> STORE_0 : STORE_1)
       }
    :: atomic { at == STORE_0 -> r[0] = (log_r0[me] != KEEP -> log_r0[me] : r[0]); at = (log_r1[me] != KEEP -> STORE_1 : STORE_W) }
    :: atomic { at == STORE_1 -> r[1] = (log_r1[me] != KEEP -> log_r1[me] : r[1]); at = STORE_W }
    :: atomic {
           at == STORE_W ->
           if
           :: log_w[me] != KEEP -> w[log_node[me]] = log_w[me]
           :: else
           fi;
           at = UNLOCK
       }
    :: atomic {
           at == UNLOCK ->
           locked[R] = false;
           version[R]++;
           if
           :: log_node[me] != NIL -> locked[log_node[me]] = false; version[log_node[me]]++
           :: else
           fi;
           at = (log_free[me] != NIL -> FREE_1 : CUT)
       }
    :: atomic { at == FREE_1 -> freeing[me] = log_free[me]; log_free[me] = NIL; at = FREE_2 }
    :: atomic {
           at == FREE_2 ->
           assert(header[freeing[me]] == LIVE);
           header[freeing[me]] = FREE; w[freeing[me]] = NIL;
           freeing[me] = NIL;
           at = CUT
       }
    :: atomic {
           at == FAIL ->
           state[me] = IDLE;
           log_free[me] = log_new[me]; log_new[me] = NIL;
           at = (log_free[me] != NIL -> FREE_1 : CUT)
       }
    :: atomic {
           at == CUT ->
           log_r0[me] = KEEP; log_r1[me] = KEEP; log_w[me] = KEEP; log_node[me] = NIL; log_on[me] = false;
           state[me] = IDLE;
           node = NIL; rv = 0; nv = 0; copies = false; my = 0;
           at = CHOOSE
       }
    :: at == OVER -> break
    od
}

/* The roots of a process, one after the other. */
#if defined(MUT_PINS_FIRST) || defined(PINS_FIRST)
#define ROOT_0 pin[s]
#define ROOT_1 hold[s]
#define ROOT_9 NIL
#elif defined(MUT_PINS_LAST) || defined(PINS_LAST)
#define ROOT_0 hold[s]
#define ROOT_1 NIL
#define ROOT_9 pin[s]
#else
#define ROOT_0 hold[s]
#define ROOT_1 pin[s]
#define ROOT_9 NIL
#endif

proctype helper(byte me)
{
    mtype at = LOOK;
    short my;
    byte s, k;
    bool found;

    do
    :: atomic {
           at == LOOK ->
           my = gc; s = 0; k = 0; found = false;
           if
           :: PHASE(my) == IDLE && CYCLE(my) >= CYCLES && actors > 0 -> my = 0; at = FINISH
           :: PHASE(my) == IDLE && quiet -> my = 0; at = OVER
           :: PHASE(my) == IDLE && !quiet && (CYCLE(my) < CYCLES || actors == 0) ->
              gc = GC(CYCLE(my) + 1, 0, ARM);
              quiet = (actors == 0);
              my = 0
           :: PHASE(my) == ARM -> at = SLOT
           :: PHASE(my) == ROOTS -> shade(R, CYCLE(my)); at = ROOT
           :: PHASE(my) == MARK -> at = PASS_BEGIN
           fi
       }
    :: atomic { at == FINISH && actors == 0 -> at = LOOK } /* (a helper that has come to rest until the end) */
    /* ARM */
    :: atomic {
           at == SLOT ->
#ifdef NO_ARM
           s++;
#else
           if
           :: k == 0 && state[s] == IDLE -> s++
           :: k == 0 && state[s] != IDLE -> shade(log_r0[s], CYCLE(my)); k = 1
           :: k == 1 -> shade(log_r1[s], CYCLE(my)); k++
           :: k == 2 -> shade(log_w[s], CYCLE(my)); k++
           :: k == 3 && log_r0[s] != KEEP -> shade(r[0], CYCLE(my)); k++
           :: k == 3 && log_r0[s] == KEEP -> k++
           :: k == 4 && log_r1[s] != KEEP -> shade(r[1], CYCLE(my)); k++
           :: k == 4 && log_r1[s] == KEEP -> k++
           :: k == 5 && log_w[s] != KEEP -> shade(w[log_node[s]], CYCLE(my)); k++
           :: k == 5 && log_w[s] == KEEP -> k++
           :: k == 6 -> shade(log_new[s], CYCLE(my)); k++
           :: k == 7 -> shade(log_free[s], CYCLE(my)); shade(w[log_free[s]], CYCLE(my)); k++
           :: k == 8 -> shade(freeing[s], CYCLE(my)); k = 0; s++
           fi;
#endif
           if
           :: s < MUTATORS
           :: else ->
              if
              :: gc == my -> gc = GC(CYCLE(my), 0, ROOTS)
              :: else
              fi;
              my = 0; s = 0; at = LOOK
           fi
       }
    /* ROOTS */
    :: atomic {
           at == ROOT ->
           if
           :: k == 0 -> shade(ROOT_0, CYCLE(my)); k++
           :: k == 1 -> shade(ROOT_1, CYCLE(my)); k++
           :: k == 2 && !log_on[s] -> k = 7
           :: k == 2 && log_on[s] -> shade(log_r0[s], CYCLE(my)); k++
           :: k == 3 -> shade(log_r1[s], CYCLE(my)); k++
           :: k == 4 -> shade(log_w[s], CYCLE(my)); k++
#ifdef MUT_ROOT_NO_CONTENTS
           :: k == 5 -> shade(log_new[s], CYCLE(my)); k++
#else
           :: k == 5 -> shade(log_new[s], CYCLE(my)); shade(w[log_new[s]], CYCLE(my)); k++
#endif
           :: k == 6 -> shade(log_free[s], CYCLE(my)); k++
           :: k == 7 -> shade(taking[s], CYCLE(my)); shade(freeing[s], CYCLE(my)); k++
           :: k == 8 -> shade(ROOT_9, CYCLE(my)); k = 0; s++
           fi;
#if !defined(MUT_PINS_LAST) && !defined(PINS_LAST)
           if
           :: k == 8 -> k = 0; s++
           :: else
           fi;
#endif
           if
           :: s < MUTATORS
           :: else ->
              if
              :: gc == my -> gc = GC(CYCLE(my), 0, MARK)
              :: else
              fi;
              my = 0; s = 0; at = LOOK
           fi
       }
    /* MARK */
    :: atomic { at == PASS_BEGIN -> s = R; at = VISIT }
    :: atomic {
           at == VISIT ->
           if
           :: COLOUR(s, CYCLE(my)) == GRAY -> found = true; at = (header[s] == LIVE -> CHILD : BUMP)
           :: else -> s++; at = (s <= X -> VISIT : PASS_END)
           fi
       }
    :: atomic {
           at == CHILD ->
           if
           :: s == R -> shade(r[k], CYCLE(my))
           :: else -> shade(w[s], CYCLE(my))
           fi;
           if
           :: s == R && k == 0 -> k = 1
           :: else -> k = 0; at = BUMP
           fi
       }
    :: atomic {
           at == BUMP ->
           if
           :: PHASE(gc) == MARK && CYCLE(gc) == CYCLE(my) -> gc = GC(CYCLE(gc), PASS(gc) + 1, MARK); at = BLACKEN
           :: else -> at = LOOK
           fi
       }
    :: atomic {
           at == BLACKEN ->
           if
           :: COLOUR(s, CYCLE(my)) == GRAY -> mark_colour[s] = BLACK
           :: else
           fi;
           s++; at = (s <= X -> VISIT : PASS_END)
       }
    :: atomic {
           at == PASS_END ->
           s = 0;
           at = (found -> LOOK : JUDGE);
           found = false
       }
    :: atomic {
           at == JUDGE ->
           if
           :: gc == my ->
              d_step {
                  reach();
                  for (s : A .. X) {
                      if
                      :: header[s] == LIVE && COLOUR(s, CYCLE(my)) != BLACK && taking[0] != s && taking[1] != s ->
                         assert(!HAS(s));
                         header[s] = FREE; w[s] = NIL; version[s]++
                      :: else
                      fi;
                      assert(!quiet || HAS(s) || header[s] == FREE)
                  }
                  gc = GC(CYCLE(my), 0, IDLE);
                  met = 0; e0 = 0; e1 = 0; ew = 0; eb = 0; m_ = 0
              }
           :: else
           fi;
           s = 0; my = 0; at = LOOK
       }
    :: at == OVER -> break
    od
}

init
{
    byte i;

    atomic {
        header[R] = LIVE; header[A] = LIVE; header[X] = LIVE;
        r[0] = A;
        if
        :: AT_FIRST(0) -> w[A] = X
        :: AT_FIRST(1) -> r[1] = X
        :: AT_FIRST(2) -> hold[0] = X; relied[0] = true
        :: AT_FIRST(3) -> hold[1] = X; relied[1] = true
        :: AT_FIRST(4) -> r[1] = X; hold[0] = X; relied[0] = true
        :: AT_FIRST(5) -> r[1] = X; hold[1] = X; relied[1] = true
        fi;
        run mutator(0, OPS);
        run mutator(1, OPS_B);
        for (i : 0 .. HELPERS - 1) { run helper(i) }
        i = 0
    }
}
