/* SPDX-License-Identifier: Apache-2.0 */
/* The sentence that a start-up call leaves when it fails. */
#ifndef BASE_CAUSE_H
#define BASE_CAUSE_H

/*
 * *cause: the sentence, malloc'd, or NULL without memory. cause NULL: nobody wants to know. What was in
 * *cause is not freed.
 */
void cause_say(char **cause, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same; returns err. */
int cause_fail(char **cause, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
