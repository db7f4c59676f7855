/*
 * repair.h: what the files of the repair share.
 */
#ifndef SHO_API_REPAIR_H
#define SHO_API_REPAIR_H

#include "heap/salvage.h"
#include "txn/session.h"
#include "types/container.h"

/* Copies what can be read of a salvaged heap into a new, empty store: what its root leads to, and if something was lost on
 * the way, what nothing leads to any more under "lost+found". Tells each loss in a line. 0, EFULL, ENOMEM, EIO. */
int sho_salvage_copy(sho_region *from, shobj_store *to, void (*report)(const char *line, void *arg), void *arg,
                     uint64_t *ret_lost_count);

#endif
