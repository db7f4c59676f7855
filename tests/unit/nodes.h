/*
 * nodes.h: bare nodes as test objects: each holds a number in word 0. What the engine promises about any container shows on
 * them without one.
 */
#ifndef NODES_H
#define NODES_H

#include "check.h"
#include "txn/session.h"

#define NODE_KIND SHM_LIST_LEAF

static inline sho_session *session_of(shobj_store *store)
{
    sho_session *s = NULL;
    CHECK_INT(sho_session_get(store, &s), 0);
    return s;
}

/* Runs a body as an operation; the body names its session `s`. */
#define RUN(store, rc, body)                                                                       \
    do {                                                                                           \
        sho_session *s = session_of(store);                                                        \
        SHO_OP(s, rc, body);                                                                       \
    } while (0)

static inline int node_new_body(sho_session *s, uint64_t value, uint64_t *ret_off)
{
    sho_view view;
    int rc = sho_op_new(s, NODE_KIND, 6, &view);
    if (rc)
        return rc;
    sho_op_set(s, &view, 0, value);
    *ret_off = view.off;
    return 0;
}

static inline uint64_t node_new(shobj_store *store, uint64_t value)
{
    uint64_t off = 0;
    int rc;
    RUN(store, rc, node_new_body(s, value, &off));
    CHECK_INT(rc, 0);
    return off;
}

static inline int node_get_body(sho_session *s, uint64_t off, uint64_t *ret_value)
{
    sho_view view;
    int rc = sho_op_read(s, off, NODE_KIND, &view);
    if (rc)
        return rc;
    *ret_value = sho_view_word(&view, 0);
    return 0;
}

/* 0 or ECONFLICT. */
static inline int node_get(shobj_store *store, uint64_t off, uint64_t *ret_value)
{
    int rc;
    RUN(store, rc, node_get_body(s, off, ret_value));
    return rc;
}

static inline int node_add_body(sho_session *s, uint64_t off, uint64_t delta, bool leaf)
{
    sho_view view;
    int rc = sho_op_read(s, off, NODE_KIND, &view);
    if (rc || (rc = sho_op_write(s, &view)))
        return rc;
    uint64_t value = sho_view_word(&view, 0);
    if (leaf)
        sho_op_leaf(s);
    if ((rc = sho_op_check(s)))
        return rc;
    sho_op_set(s, &view, 0, value + delta);
    return 0;
}

/* 0, ECONFLICT or EFULL. */
static inline int node_add(shobj_store *store, uint64_t off, uint64_t delta, bool leaf)
{
    int rc;
    RUN(store, rc, node_add_body(s, off, delta, leaf));
    return rc;
}

#endif
