/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the tables of micro.h under Google Benchmark and prints, after its own report, the median of
 * each benchmark and its ratio to its peer. With MICRO_ASSERT=1 in the environment the exit status
 * is 1 when a ratio is above its goal.
 *
 *     build/micro                                    everything
 *     build/micro --benchmark_filter=^index/         some (take the peers along)
 */
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "bench/micro/micro.h"

namespace
{

struct entry {
	const struct micro *m;
	void *state;
	bool ready;
	int err;
};

std::vector<entry> &entries()
{
	static std::vector<entry> all;
	return all;
}

void run_entry(benchmark::State &st, entry *e)
{
	if (!e->ready) {
		e->err = e->m->setup ? e->m->setup(&e->state) : 0;
		e->ready = true;
	}
	if (e->err != 0) {
		st.SkipWithError(std::strerror(-e->err));
		return;
	}
	while (st.KeepRunningBatch(static_cast<benchmark::IterationCount>(e->m->batch)))
		benchmark::DoNotOptimize(e->m->run(e->state, e->m->batch));
	st.SetItemsProcessed(st.iterations());
	if (e->m->bytes != 0)
		st.SetBytesProcessed(st.iterations() * static_cast<int64_t>(e->m->bytes));
}

class reporter : public benchmark::ConsoleReporter
{
	std::map<std::string, std::vector<double>> ns;

      public:
	bool failed = false;

	reporter() : benchmark::ConsoleReporter(OO_Tabular)
	{
	}

	void ReportRuns(const std::vector<Run> &runs) override
	{
		for (const Run &r : runs) {
			if (r.error_occurred)
				failed = true;
			else if (r.run_type == Run::RT_Iteration)
				ns[r.run_name.function_name].push_back(r.real_accumulated_time * 1e9 /
				    static_cast<double>(r.iterations));
		}
		ConsoleReporter::ReportRuns(runs);
	}

	double median(const char *name)
	{
		auto it = ns.find(name);
		if (it == ns.end())
			return 0;
		std::sort(it->second.begin(), it->second.end());
		return it->second[it->second.size() / 2];
	}

	/* The number of ratios above their goals. */
	int summary()
	{
		int over = 0;

		std::printf("\n%-36s %10s %8s %8s  %s\n", "median of rounds", "ns/op", "ratio", "goal",
		    "peer");
		for (const entry &e : entries()) {
			double t = median(e.m->name), p;

			if (t == 0)
				continue;
			std::printf("%-36s %10.2f", e.m->name, t);
			if (e.m->peer != nullptr && (p = median(e.m->peer)) != 0) {
				std::printf(" %8.2f", t / p);
				if (e.m->ratio_max != 0) {
					bool bad = t / p > e.m->ratio_max;

					std::printf(" %8.2f  %s%s", e.m->ratio_max, e.m->peer,
					    bad ? "  ABOVE GOAL" : "");
					over += bad;
				} else {
					std::printf(" %8s  %s", "", e.m->peer);
				}
			}
			std::printf("\n");
		}
		return over;
	}
};

} // namespace

extern "C" void micro_register(const struct micro *table, size_t n)
{
	for (size_t i = 0; i < n; i++)
		entries().push_back(entry{&table[i], nullptr, false, 0});
}

int main(int argc, char **argv)
{
	static char rounds[] = "--benchmark_repetitions=5", mix[] =
	    "--benchmark_enable_random_interleaving=true", time[] = "--benchmark_min_time=0.1";
	std::vector<char *> args{argv[0], rounds, mix, time};
	const char *must = std::getenv("MICRO_ASSERT");

	args.insert(args.end(), argv + 1, argv + argc); /* later ones win */
	argc = static_cast<int>(args.size());
	args.push_back(nullptr);
	benchmark::Initialize(&argc, args.data());
	if (benchmark::ReportUnrecognizedArguments(argc, args.data()))
		return 2;
	for (entry &e : entries())
		benchmark::RegisterBenchmark(e.m->name, [&e](benchmark::State &st) {
			run_entry(st, &e);
		})->Unit(benchmark::kNanosecond);
	reporter r;
	benchmark::RunSpecifiedBenchmarks(&r);
	int over = r.summary();
	for (entry &e : entries())
		if (e.ready && e.err == 0 && e.m->teardown != nullptr)
			e.m->teardown(e.state);
	benchmark::Shutdown();
	return r.failed || (over != 0 && must != nullptr && *must == '1');
}
