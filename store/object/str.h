/* str.h: what text may be in a str: UTF-8, with lone surrogates as three bytes each. */
#ifndef SHO_STR_H
#define SHO_STR_H

#include "base/base.h"

/* The offset of the first byte that is not part of well-formed text, `count` if all is. *ret_ascii:
 * every byte is below 128. Overlong forms and code points above 0x10ffff are not well-formed;
 * surrogates are, paired or not. */
size_t sho_str_check(const void *text, size_t count, bool *ret_ascii);

#endif
