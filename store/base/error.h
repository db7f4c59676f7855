/* error.h: the calling thread's error message. */
#ifndef SHO_ERROR_H
#define SHO_ERROR_H

/* Sets the message of the calling thread and returns `code`. */
int sho_error(int code, const char *format, ...) __attribute__((format(printf, 2, 3), cold));

/* The same with a text that stays as it is, for what happens in the ordinary course (a missing key): one store. */
int sho_error_text(int code, const char *text);

#endif
