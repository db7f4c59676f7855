/*
 * salvage.h: a damaged heap file in private memory, and a hold on the file against all others.
 */
#ifndef SHO_SALVAGE_H
#define SHO_SALVAGE_H

#include "heap/region.h"

/* Maps a damaged heap privately. ENOENT, EACCES, EFORMAT, EVERSION, ECORRUPT (its sizes can't be told), EIO, ENOMEM. */
int sho_region_salvage(const char *path, sho_region **ret_region);

/* As long as the returned descriptor is open nobody lives in the file, and nobody can attach. EBUSY: somebody does. */
int sho_region_lock_out(const char *path, int *ret_lock);

#endif
