// A loop that several threads share. Whichever thread is free takes the next turn, so a thread that
// other work holds up leaves its turns to the others; and threads that made a call longer than it
// would have been on one thread are left alone for a while.
#pragma once

#include <time.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>

namespace pyebm {

// Says whether other threads have been worth calling lately. Torch's threads meet at the end of a
// loop. On a machine with other work one of them may get its turn at a processor only milliseconds
// later, and the caller would wait for it, although no work is left.
class OtherThreads {
 public:
  // The seconds that the calling thread has run on a processor, and the seconds that have passed.
  struct Time {
    double processor, wall;
    static Time now() { return {seconds(CLOCK_THREAD_CPUTIME_ID), wall_now()}; }
    static double wall_now() { return seconds(CLOCK_MONOTONIC); }
  };

  static bool worth_calling(const Time& now) { return always_ || now.wall >= alone_until_; }
  static void always_call(bool always) { always_ = always; }

  // A loop began at `begin`; the caller had done `share` of it by `done`, and now all threads have
  // met. They were worth it if they saved a fifth of the time that the caller would have taken on a
  // processor of its own. Otherwise they are left alone for 5 times what they lost, and for twice
  // as long as the last time.
  static void learn(const Time& begin, const Time& done, double share) {
    constexpr double kShortest = 1e-4, kLongest = 0.64, kSlack = 20e-6, kWaking = 100e-6;  // seconds
    const double now = Time::wall_now(), took = now - begin.wall,
                 alone = share > 0 ? (done.processor - begin.processor) / share : 0, lost = took - alone;
    const double pause = pause_;
    if (share > 0 && took <= 0.8 * alone + kSlack) {
      if (pause > 0) pause_ = pause > kShortest ? pause / 2 : 0;
      return;
    }
    // The first loop after a pause takes the time of the others' waking too; the next ones don't.
    if (pause > 0 && lost < kWaking && !awake_.exchange(true)) return;
    pause_ = std::clamp(std::max(2 * pause, 5 * lost), kShortest, kLongest);
    awake_ = false;
    alone_until_ = now + pause_;
  }

 private:
  static double seconds(clockid_t clock) {
    timespec time;
    clock_gettime(clock, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }

  static inline std::atomic<double> pause_{0}, alone_until_{0};  // seconds
  static inline std::atomic<bool> awake_{false}, always_{false};
};

// Calls make() on each thread that gets a turn, to get a body, and body(begin, end) for each turn,
// until [0, count) is done. grain: the numbers that are worth waking a thread. The result must not
// depend on which thread takes which turn.
template <class Make>
void parallel(int64_t count, int64_t grain, Make make) {
  using Time = OtherThreads::Time;
  if (count <= 0) return;
  const int64_t useful = (count + grain - 1) / grain;
  const int64_t threads = useful > 1 ? std::min<int64_t>(useful, torch::stable::get_num_threads()) : 1;
  const Time begin = threads > 1 ? Time::now() : Time{};
  if (threads == 1 || !OtherThreads::worth_calling(begin)) return make()(int64_t{0}, count);

  constexpr int64_t kTurnsOfAThread = 8;
  const int64_t each = std::max<int64_t>(1, count / (kTurnsOfAThread * threads));
  std::atomic<int64_t> next{0};
  // Takes turns until none is left; returns how many numbers they were.
  const auto take_part = [&] {
    int64_t taken = 0, at = next.fetch_add(each, std::memory_order_relaxed);
    if (at >= count) return taken;
    auto body = make();
    do {
      const int64_t end = std::min(at + each, count);
      body(at, end);
      taken += end - at;
    } while ((at = next.fetch_add(each, std::memory_order_relaxed)) < count);
    return taken;
  };
  int64_t own = 0;
  Time done = begin;
  torch::stable::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (int64_t thread = first; thread < last; ++thread) {
      const int64_t taken = take_part();
      if (thread) continue;  // the thread 0 is the caller
      own = taken;
      done = Time::now();
    }
  });
  OtherThreads::learn(begin, done, static_cast<double>(own) / count);
}

}  // namespace pyebm
