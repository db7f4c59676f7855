/*
 * list.h: the list, as its own files see it: its nodes, and the editor that changes its tree.
 *
 *   INLINE   head: [meta | cell cell cell ...]
 *
 *   TREE     head: [meta | root | tail | tail_start]
 *                          |      |
 *                        inner    +-----------------------------+
 *                       /     \                                 |
 *                   inner      inner  [meta | start ref | start ref | ...]
 *                   / | \      / | \                            |
 *               leaf leaf ... ...  leaf  [meta | gap | cells | gap]
 *
 * Invariants (sho_list_check() verifies them):
 * I1  All leaves are equally deep; an inner node's level is its distance from them; the height is
 *     the root's level.
 * I2  Child k of an inner node holds the node's elements from start[k] - start[0] up to
 *     start[k + 1] - start[0] (modulo 2^64; the last one's end is the node's). Only differences count, so
 *     that an element which comes or goes changes the starts on the shorter side of its path, and
 *     an append changes none.
 * I3  One leaf has the TAIL mark: the last one, which the head refers to; tail_start is the index
 *     of its first element. The length of the list is tail_start + the tail's count.
 * I4  One leaf has the SOLE mark: that of a list of height 0, which is its root and its tail.
 * I5  Every leaf but a TAIL that is not SOLE has an element; every inner node has a child, the
 *     root two.
 * I6  All cells of a leaf stand together, anywhere in it. All words outside of what the metas count
 *     are 0.
 *
 * Facts of one node (what a writer of that node alone may rely on, sho_op_leaf()):
 * F1  INLINE: everything is a fact of the head.
 * F2  SOLE: the indices of the leaf's elements, and the length. Whoever makes a second leaf takes
 *     the mark away.
 * F3  TAIL: where the list ends, and so the indices of the leaf's elements as counted from the end.
 *     Whoever makes another leaf the last one, or takes this one out, writes it.
 * Any other position is a fact of the whole path from the head. So a leaf without a mark, and an inner node, may be taken
 * out without being written (list_cut.c): who read it on his way is told by the node above.
 */
#ifndef SHO_LIST_H
#define SHO_LIST_H

#include "types/container.h"

/* ------------------------------------------------------------------------------------------ stored form */

/* The sizes fill their classes of blocks: 64, 288 and 528 bytes. */
#define LIST_HEAD_WORDS 6u
#define LIST_LEAF_CELLS 33u
#define LIST_LEAF_WORDS (1u + LIST_LEAF_CELLS)
#define LIST_FANOUT 31u
#define LIST_INNER_WORDS (1u + 2u * LIST_FANOUT)
#define LIST_HEIGHT_MAX 12u

/* Word 0 of the head. INLINE: the count of the cells from word 1 on. TREE: (height + 1) << 8. */
#define LIST_META_IS_INLINE(meta) ((meta) < 256)
#define LIST_META_TREE(height) ((uint64_t)((height) + 1) << 8)
#define LIST_META_HEIGHT(meta) (((meta) >> 8) - 1)
#define LIST_HEAD_ROOT 1u
#define LIST_HEAD_TAIL 2u
#define LIST_HEAD_TAIL_START 3u

/* Word 0 of a leaf: count:8 | gap before the cells:8 | marks. Cell j is word 1 + first + j. */
#define LIST_TAIL 0x10000u
#define LIST_SOLE 0x20000u
#define LIST_LEAF_META(count, first, marks) ((uint64_t)(count) | (uint64_t)(first) << 8 | (marks))
#define LIST_LEAF_COUNT(meta) ((unsigned)((meta) & 0xff))
#define LIST_LEAF_FIRST(meta) ((unsigned)((meta) >> 8 & 0xff))
#define LIST_LEAF_MARKS(meta) ((unsigned)((meta) & (LIST_TAIL | LIST_SOLE)))

/* Word 0 of an inner node: count:8 | level. */
#define LIST_INNER_META(count, level) ((uint64_t)(count) | (uint64_t)(level) << 8)
#define LIST_INNER_COUNT(meta) ((unsigned)((meta) & 0xff))
#define LIST_INNER_LEVEL(meta) ((meta) >> 8)
#define LIST_INNER_START(k) (1u + 2u * (k))
#define LIST_INNER_REF(k) (2u + 2u * (k))

/* Are these metas of a leaf, an inner node that words of the node may be read by? */
SHO_INLINE bool list_leaf_ok(const sho_view *leaf, uint64_t meta)
{
    return LIST_LEAF_COUNT(meta) + LIST_LEAF_FIRST(meta) <= LIST_LEAF_CELLS && leaf->word_count >= LIST_LEAF_WORDS;
}
SHO_INLINE bool list_inner_ok(const sho_view *inner, uint64_t meta, unsigned level)
{
    return LIST_INNER_COUNT(meta) - 1 < LIST_FANOUT && LIST_INNER_LEVEL(meta) == level &&
           inner->word_count >= LIST_INNER_WORDS;
}

/* Is a sole leaf of so many cells to be given up for the head? Half of its room: the next appends
 * find some. */
SHO_INLINE bool list_fits_head(unsigned count, unsigned head_words)
{
    return count <= (head_words - 1) / 2;
}

/* No sound list is longer: each element is a word of the heap. */
uint64_t sho_list_length_max(sho_session *s);

/* The result of a call on a list, with its message if it failed and has none yet. */
SHO_COLD int sho_list_failed(shobj_store *store, shobj_oid list, int rc);
SHO_INLINE int sho_list_result(shobj_store *store, shobj_oid list, int rc)
{
    return SHO_LIKELY(rc == 0) ? 0 : sho_list_failed(store, list, rc);
}

/* ------------------------------------------------------------------------------------------ the editor */

/*
 * The editor is for changes of more than one cell. It keeps the words that are to change beside the
 * nodes, privately, so that the tree algorithms read and write as if nothing were shared;
 * sho_list_finish() announces, checks and applies them. All of it belongs to the gather half:
 * counts are range-checked as a node is read and kept in its struct, and what a race did to the
 * other words can only spoil words that the check will not let through.
 */
typedef struct sho_list_node {
    sho_view view;
    uint64_t dirty;  /* bit i: words[i] is to be stored */
    uint8_t level;   /* 0: a leaf; LIST_HEIGHT_MAX + 1: the head */
    uint8_t count;   /* cells or children */
    uint8_t first;   /* of a leaf: the gap before its cells */
    bool fresh;      /* made by this operation: nobody else knows it */
    bool gone;       /* to be freed */
    uint32_t marks;  /* of a leaf: LIST_TAIL, LIST_SOLE */
    uint64_t words[SHM_NODE_WORDS_MAX];
} sho_list_node;

/* The most that one change needs: the head, two paths, and two neighbours of each node on them. */
#define LIST_EDIT_NODES (1u + 6u * (LIST_HEIGHT_MAX + 1u))

typedef struct sho_list_edit {
    sho_session *s;
    bool tidy;           /* removing joins small nodes with their neighbours */
    bool tree;           /* the rest is of TREE mode; it is put into the head at the end */
    unsigned height;
    uint64_t root;
    uint64_t tail;
    uint64_t tail_start;
    sho_list_node *head;
    unsigned node_count;
    sho_list_node nodes[LIST_EDIT_NODES];
} sho_list_edit;

/* Element by element from the head down: the nodes met, and the place taken in each. */
typedef struct sho_list_path {
    sho_list_node *node[LIST_HEIGHT_MAX + 1]; /* by level */
    unsigned slot[LIST_HEIGHT_MAX + 1];       /* the child taken at levels 1 and up */
    uint64_t pos;                             /* in the leaf */
    uint64_t leaf_start;                      /* index of the leaf's first element */
} sho_list_path;

/* `head` was read (or made) by this operation. All of these: 0, SHO_RESTART, SHOBJ_ECORRUPT or what
 * they call. */
int sho_list_edit_begin(sho_list_edit *e, sho_session *s, const sho_view *head);

/* The node at off, read once in an edit. */
int sho_list_edit_node(sho_list_edit *e, uint64_t off, unsigned level, sho_list_node **ret_node);
int sho_list_edit_new(sho_list_edit *e, unsigned level, sho_list_node **ret_node);

/* Stores what is known of a fresh node, and makes its struct that of another new one. */
int sho_list_edit_renew(sho_list_edit *e, sho_list_node *node);

/* The path to an element; UINT64_MAX: to the end of the last leaf. */
int sho_list_edit_descend(sho_list_edit *e, uint64_t index, sho_list_path *ret_path);

/* Announces, checks, applies. `fact`: if the one node to be written is a leaf or an INLINE head,
 * then what the operation does is a fact of it. */
int sho_list_finish(sho_list_edit *e, bool fact);

SHO_INLINE uint64_t list_word(const sho_list_node *n, unsigned i)
{
    return n->dirty >> i & 1 ? n->words[i] : sho_view_word(&n->view, i);
}
SHO_INLINE void list_put(sho_list_node *n, unsigned i, uint64_t word)
{
    if (list_word(n, i) != word) {
        n->words[i] = word;
        n->dirty |= 1ULL << i;
    }
}

/* Puts a leaf's meta, or an inner node's, from the fields. */
SHO_INLINE void list_put_leaf_meta(sho_list_node *n)
{
    list_put(n, 0, LIST_LEAF_META(n->count, n->first, n->marks));
}
SHO_INLINE void list_put_inner_meta(sho_list_node *n)
{
    list_put(n, 0, LIST_INNER_META(n->count, n->level));
}

/* The cells of a leaf, out and in again (at most LIST_LEAF_CELLS; `first` + count too). */
void sho_list_cells_get(const sho_list_node *leaf, uint64_t *ret_cells);
void sho_list_cells_put(sho_list_node *leaf, const uint64_t *cells, unsigned count, unsigned first);

/* ------------------------------------------------------------------------------------------ list_tree.c */

/* Inserts before the element at `index`, below the length, of a TREE. */
int sho_list_tree_insert(sho_list_edit *e, uint64_t index, uint64_t cell);

/* Removes the element at `index`, below the length, of a TREE. *ret_cell is what was there. */
int sho_list_tree_remove(sho_list_edit *e, uint64_t index, uint64_t *ret_cell);

/* Brings the top of a TREE that has lost elements in order: I4, I5, and back into the head what it could hold. */
int sho_list_tree_settle(sho_list_edit *e);

/* ------------------------------------------------------------------------------------------ list_bulk.c */

/* Appends values; grows INLINE to TREE as needed. */
int sho_list_append_values(sho_list_edit *e, const shobj_value *values, size_t count);

/* The same for an INLINE list, with a cell put in before cell `pos`: it is known not to fit the
 * head. */
int sho_list_spill(sho_list_edit *e, unsigned pos, uint64_t cell);

#endif
