/* SPDX-License-Identifier: Apache-2.0 */
/* A queue of jobs and its threads; see pool.h. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "ocache/pool.h"
#include "ocache/thread.h"

struct pool {
	pthread_mutex_t lock;
	pthread_cond_t more;
	/* under lock: */
	struct job *first, **end;
	bool over;
	unsigned threads;
	pthread_t thread[];
};

static void *run(void *arg)
{
	struct pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct job *job = p->first;

		if (job == NULL && p->over)
			break;
		if (job == NULL) {
			pthread_cond_wait(&p->more, &p->lock);
			continue;
		}
		p->first = job->next;
		if (p->first == NULL)
			p->end = &p->first;
		pthread_mutex_unlock(&p->lock);
		job->run(job);
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int pool_open(unsigned threads, struct pool **out)
{
	struct pool *p = calloc(1, sizeof *p + threads * sizeof p->thread[0]);
	int err = 0;

	if (p == NULL)
		return -ENOMEM;
	p->end = &p->first;
	AZ(pthread_mutex_init(&p->lock, NULL));
	AZ(pthread_cond_init(&p->more, NULL));
	while (p->threads < threads && err == 0) {
		err = thread_start(&p->thread[p->threads], "ocache-pool", run, p);
		p->threads += err == 0;
	}
	if (err != 0)
		pool_close(&p);
	else
		*out = p;
	return err;
}

void pool_close(struct pool **out)
{
	struct pool *p = *out;

	if (p == NULL)
		return;
	*out = NULL;
	pthread_mutex_lock(&p->lock);
	p->over = true;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->threads; i++)
		AZ(pthread_join(p->thread[i], NULL));
	AZ(pthread_cond_destroy(&p->more));
	AZ(pthread_mutex_destroy(&p->lock));
	free(p);
}

void pool_push(struct pool *p, struct job *job)
{
	job->next = NULL;
	pthread_mutex_lock(&p->lock);
	*p->end = job;
	p->end = &job->next;
	pthread_mutex_unlock(&p->lock);
	pthread_cond_signal(&p->more); /* not under the lock, which who wakes up wants */
}
