/* error.h: the calling thread's error message. */
#ifndef SHO_ERROR_H
#define SHO_ERROR_H

/* Sets the message of the calling thread; the value is `code`. A macro, so that whoever compiles or analyses the
 * caller sees which number comes back, and that it is not 0: outputs then are known to be set where they are used. */
#define sho_error(code, ...)                                                                                           \
    ({                                                                                                                 \
        int sho_error_code = (code);                                                                                   \
        sho_error_format(__VA_ARGS__);                                                                                 \
        sho_error_code;                                                                                                \
    })

/* The same with a text that stays as it is, for what happens in the ordinary course (a missing key): one store. */
#define sho_error_text(code, text)                                                                                     \
    ({                                                                                                                 \
        int sho_error_code = (code);                                                                                   \
        sho_error_constant(text);                                                                                      \
        sho_error_code;                                                                                                \
    })

void sho_error_format(const char *format, ...) __attribute__((format(printf, 1, 2), cold));
void sho_error_constant(const char *text);

#endif
