// One io_uring instance: set-up, the three system calls, registrations, and a shutdown that is safe with I/O in flight.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>

#include "io-uring-abi.h"

namespace millrace {

/**
 * Words shared with JavaScript on a page of their own. `finals` counts completions without F_MORE that JavaScript has
 * consumed. It is stored after the head of the completion queue: stopped in between, JavaScript counts too few, and
 * the ring looks busier than it is, which errs to the side of leaking.
 */
struct Control {
  uint32_t work;        // JavaScript: a turn is wanted before the loop waits
  uint32_t active;      // JavaScript: what should keep the process alive
  uint32_t referenced;  // addon: whether the ring keeps the loop alive
  uint32_t finals;      // JavaScript and, in shutdown, the addon
};

struct SetupFailure {
  const char* call = nullptr;
  int error = 0;
};

class Ring {
 public:
  using Clock = std::chrono::steady_clock;

  /** Tries set-up flags from the best to none. Null when the kernel refuses, with the call that failed. */
  static std::unique_ptr<Ring> Open(uint32_t entries, uint32_t completions, uint32_t allowedFlags,
                                    SetupFailure* failure);
  /** Unmaps and closes. Invariant: nothing is in flight, or `Leak` was called before. */
  ~Ring();
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  /** The kernel's answer, or a negative errno. Without a timeout when `timeoutNanoseconds` is negative. */
  int Enter(uint32_t submit, uint32_t minComplete, uint32_t flags, int64_t timeoutNanoseconds);
  int Register(uint32_t operation, const void* argument, uint32_t count);
  int RegisterBufferTable(uint32_t slots);
  int UpdateBuffer(uint32_t slot, void* memory, size_t bytes);
  int RegisterBufferRing(uint16_t group, uint32_t entries, void* memory);

  /** Submissions the kernel has taken and not yet answered for the last time. */
  uint32_t InFlight() const;
  /** Cancels everything and waits until nothing is in flight or the deadline has passed; what is still in flight. */
  uint32_t Drain(Clock::time_point deadline);
  /** Gives up ownership: descriptor and mappings stay until the process ends, because the kernel may still use them. */
  void Leak() { leaked_ = true; }

  /** Whether the kernel has something that only entering or reading the completion queue brings forth. */
  bool HasWork() const;
  /** While suppressed, completions do not write to the event descriptor. Only where the kernel flags work instead. */
  void SuppressEvents(bool suppress);
  void Wake();
  void ClearWake();

  int eventFd() const { return eventFd_; }
  Control* control() const { return control_; }
  const abi::SetupParams& params() const { return params_; }
  void* ringMemory() const { return ringMemory_; }
  size_t ringBytes() const { return ringBytes_; }
  void* sqeMemory() const { return sqeMemory_; }
  size_t sqeBytes() const { return sqeBytes_; }
  static constexpr size_t kControlBytes = 4096;

 private:
  Ring() = default;
  bool SetUp(uint32_t entries, uint32_t completions, uint32_t allowedFlags, SetupFailure* failure);
  bool MapRings(SetupFailure* failure);
  uint32_t* Word(uint32_t offset) const;
  void ReapFinals();
  void SubmitCancelAll();

  int fd_ = -1;
  int registeredFd_ = -1;
  int eventFd_ = -1;
  abi::SetupParams params_{};
  void* ringMemory_ = nullptr;
  size_t ringBytes_ = 0;
  void* sqeMemory_ = nullptr;
  size_t sqeBytes_ = 0;
  Control* control_ = nullptr;
  bool buffersRegistered_ = false;
  bool leaked_ = false;
};

}  // namespace millrace
