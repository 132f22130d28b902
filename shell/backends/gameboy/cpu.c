// The machine on a CPU: lanes in blocks, which threads take as they come.
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "machine.h"

typedef struct {
    const Job *job;
    i64 block;
    _Atomic i64 next;
} Work;

static void *work(void *argument) {
    Work *w = argument;
    for (;;) {
        i64 first = atomic_fetch_add(&w->next, w->block), last = first + w->block;
        if (first >= w->job->lanes) return NULL;
        for (i64 lane = first; lane < last && lane < w->job->lanes; lane++) step_lane(w->job, lane);
    }
}

// What Python checks before it hands over a Job.
i32 gb_job_bytes(void) { return sizeof(Job); }

// Step every lane. Threads live for one call: there is nothing for a fork to break, and starting one takes microseconds.
void gb_step(const Job *job, i32 threads) {
    pthread_t *others = malloc(sizeof *others * (size_t)threads);
    Work w = {job, job->lanes / (8 * threads) + 1, 0};
    i32 started = 0;
    for (; others && started < threads - 1; started++)
        if (pthread_create(&others[started], NULL, work, &w)) break; // fewer do the same work
    work(&w);
    for (i32 i = 0; i < started; i++) pthread_join(others[i], NULL);
    free(others);
}

void gb_read(const Job *job, i32 address, i32 length, u8 *out) {
    for (i64 lane = 0; lane < job->lanes; lane++) read_lane(job, lane, address, length, out);
}

// The lanes of `mask` become lane `choice` of another job.
void gb_copy(const Job *job, const Job *other, const u8 *mask, const i64 *choice) {
    for (i64 lane = 0; lane < job->lanes; lane++)
        if (mask[lane]) copy_lane(job, other, lane, choice[lane], 0, 1);
}
