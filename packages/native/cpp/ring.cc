// The io_uring mechanism; see ring.h.
#include "ring.h"

#include <cerrno>
#include <cstring>
#include <vector>

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

namespace millrace {

namespace {

uint32_t LoadAcquire(const uint32_t* word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
void StoreRelease(uint32_t* word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

/** Flag sets from the best to none; a kernel takes the first it knows completely. */
constexpr uint32_t kFlagSets[] = {
    abi::kSetupSingleIssuer | abi::kSetupDeferTaskrun | abi::kSetupTaskrunFlag | abi::kSetupSubmitAll |
        abi::kSetupNoSqArray,
    abi::kSetupSingleIssuer | abi::kSetupDeferTaskrun | abi::kSetupTaskrunFlag | abi::kSetupSubmitAll,
    abi::kSetupCoopTaskrun | abi::kSetupTaskrunFlag | abi::kSetupSubmitAll,
    0,
};

void* Map(size_t bytes, int fd, uint64_t offset) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
                      static_cast<off_t>(offset));
  return memory == MAP_FAILED ? nullptr : memory;
}

bool Failed(SetupFailure* failure, const char* call) {
  *failure = {call, errno};
  return false;
}

}  // namespace

std::unique_ptr<Ring> Ring::Open(uint32_t entries, uint32_t completions, uint32_t allowedFlags,
                                 SetupFailure* failure) {
  std::unique_ptr<Ring> ring(new Ring());
  if (!ring->SetUp(entries, completions, allowedFlags, failure)) return nullptr;
  if (!ring->MapRings(failure)) return nullptr;
  ring->eventFd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (ring->eventFd_ < 0) {
    Failed(failure, "eventfd");
    return nullptr;
  }
  const int error = ring->Register(abi::kRegisterEventFd, &ring->eventFd_, 1);
  if (error < 0) {
    *failure = {"io_uring_register", -error};
    return nullptr;
  }
  // Saves looking the descriptor up at every enter; kernels before 5.18 refuse, and nothing is lost.
  abi::RingFdUpdate update{UINT32_MAX, 0, static_cast<uint64_t>(ring->fd_)};
  if (ring->Register(abi::kRegisterRingFds, &update, 1) == 1) ring->registeredFd_ = static_cast<int>(update.offset);
  return ring;
}

bool Ring::SetUp(uint32_t entries, uint32_t completions, uint32_t allowedFlags, SetupFailure* failure) {
  for (const uint32_t flags : kFlagSets) {
    if ((flags & ~allowedFlags) != 0) continue;
    params_ = {};
    params_.flags = flags | abi::kSetupCqSize | abi::kSetupClamp;
    params_.cqEntries = completions;
    fd_ = static_cast<int>(syscall(abi::kSysSetup, entries, &params_));
    if (fd_ >= 0) return true;
    if (errno != EINVAL) break;
  }
  return Failed(failure, "io_uring_setup");
}

bool Ring::MapRings(SetupFailure* failure) {
  const uint32_t needed = abi::kFeatureSingleMmap | abi::kFeatureNoDrop | abi::kFeatureSubmitStable |
                          abi::kFeatureFastPoll | abi::kFeatureExtArg;
  if ((params_.features & needed) != needed) {
    errno = ENOTSUP;
    return Failed(failure, "io_uring_setup");
  }
  const bool hasArray = (params_.flags & abi::kSetupNoSqArray) == 0;
  const size_t cqBytes = params_.cq.cqes + params_.cqEntries * sizeof(abi::CqeData);
  const size_t sqBytes = hasArray ? params_.sq.array + params_.sqEntries * sizeof(uint32_t) : 0;
  ringBytes_ = cqBytes > sqBytes ? cqBytes : sqBytes;
  sqeBytes_ = params_.sqEntries * sizeof(abi::SqeData);
  ringMemory_ = Map(ringBytes_, fd_, abi::kMapSqRing);
  if (ringMemory_ == nullptr) return Failed(failure, "mmap");
  sqeMemory_ = Map(sqeBytes_, fd_, abi::kMapSqes);
  if (sqeMemory_ == nullptr) return Failed(failure, "mmap");
  void* control = mmap(nullptr, kControlBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (control == MAP_FAILED) return Failed(failure, "mmap");
  control_ = static_cast<Control*>(control);
  // A child between fork and exec must not see these pages.
  madvise(ringMemory_, ringBytes_, MADV_DONTFORK);
  madvise(sqeMemory_, sqeBytes_, MADV_DONTFORK);
  memset(sqeMemory_, 0, sqeBytes_);
  // Submissions are used in order, so the indirection of the classic layout is filled once.
  for (uint32_t i = 0; hasArray && i < params_.sqEntries; i++) Word(params_.sq.array)[i] = i;
  return true;
}

Ring::~Ring() {
  if (leaked_) return;
  if (buffersRegistered_) Register(abi::kUnregisterBuffers, nullptr, 0);
  if (registeredFd_ >= 0) {
    abi::RingFdUpdate update{static_cast<uint32_t>(registeredFd_), 0, 0};
    Register(abi::kUnregisterRingFds, &update, 1);
  }
  if (control_ != nullptr) munmap(control_, kControlBytes);
  if (sqeMemory_ != nullptr) munmap(sqeMemory_, sqeBytes_);
  if (ringMemory_ != nullptr) munmap(ringMemory_, ringBytes_);
  if (eventFd_ >= 0) close(eventFd_);
  if (fd_ >= 0) close(fd_);
}

uint32_t* Ring::Word(uint32_t offset) const {
  return reinterpret_cast<uint32_t*>(static_cast<char*>(ringMemory_) + offset);
}

int Ring::Enter(uint32_t submit, uint32_t minComplete, uint32_t flags, int64_t timeoutNanoseconds) {
  abi::KernelTimespec timeout{timeoutNanoseconds / 1000000000, timeoutNanoseconds % 1000000000};
  abi::EnterArgument argument{0, 0, 0, reinterpret_cast<uint64_t>(&timeout)};
  const void* pointer = nullptr;
  size_t bytes = 0;
  if (timeoutNanoseconds >= 0) {
    flags |= abi::kEnterExtArg;
    pointer = &argument;
    bytes = sizeof argument;
  }
  int fd = fd_;
  if (registeredFd_ >= 0) {
    fd = registeredFd_;
    flags |= abi::kEnterRegisteredRing;
  }
  const long result = syscall(abi::kSysEnter, fd, submit, minComplete, flags, pointer, bytes);
  return result < 0 ? -errno : static_cast<int>(result);
}

int Ring::Register(uint32_t operation, const void* argument, uint32_t count) {
  const long result = syscall(abi::kSysRegister, fd_, operation, argument, count);
  return result < 0 ? -errno : static_cast<int>(result);
}

int Ring::RegisterBufferTable(uint32_t slots) {
  abi::ResourceRegister table{slots, abi::kResourceSparse, 0, 0, 0};
  const int result = Register(abi::kRegisterBuffers2, &table, sizeof table);
  if (result >= 0) buffersRegistered_ = true;
  return result;
}

int Ring::UpdateBuffer(uint32_t slot, void* memory, size_t bytes) {
  const iovec vector{memory, bytes};
  const uint64_t tag = 0;
  abi::ResourceUpdate update{slot, 0, reinterpret_cast<uint64_t>(&vector), reinterpret_cast<uint64_t>(&tag), 1, 0};
  return Register(abi::kRegisterBuffersUpdate, &update, sizeof update);
}

int Ring::RegisterBufferRing(uint16_t group, uint32_t entries, void* memory) {
  const abi::BufferRingRegister registration{reinterpret_cast<uint64_t>(memory), entries, group, 0, {}};
  return Register(abi::kRegisterBufferRing, &registration, 1);
}

uint32_t Ring::InFlight() const {
  // The kernel advances the head by every submission it takes; each gets exactly one completion without F_MORE.
  uint32_t unread = 0;
  const uint32_t tail = LoadAcquire(Word(params_.cq.tail));
  for (uint32_t head = *Word(params_.cq.head); head != tail; head++) {
    const auto* completions = reinterpret_cast<const abi::CqeData*>(Word(params_.cq.cqes));
    if ((completions[head & (params_.cqEntries - 1)].flags & abi::kCqeMore) == 0) unread++;
  }
  return LoadAcquire(Word(params_.sq.head)) - control_->finals - unread;
}

void Ring::ReapFinals() {
  const auto* completions = reinterpret_cast<const abi::CqeData*>(Word(params_.cq.cqes));
  const uint32_t tail = LoadAcquire(Word(params_.cq.tail));
  uint32_t head = *Word(params_.cq.head);
  for (; head != tail; head++) {
    if ((completions[head & (params_.cqEntries - 1)].flags & abi::kCqeMore) == 0) control_->finals++;
  }
  StoreRelease(Word(params_.cq.head), head);
}

void Ring::SubmitCancelAll() {
  const uint32_t tail = *Word(params_.sq.tail);
  abi::SqeData& sqe = static_cast<abi::SqeData*>(sqeMemory_)[tail & (params_.sqEntries - 1)];
  sqe = {};
  sqe.opcode = abi::kOpAsyncCancel;
  sqe.fd = -1;
  sqe.operationFlags = abi::kCancelAll | abi::kCancelAny;
  StoreRelease(Word(params_.sq.tail), tail + 1);
  Enter(1, 0, abi::kEnterGetEvents, -1);
}

uint32_t Ring::Drain(Clock::time_point deadline) {
  // What JavaScript prepared and never submitted is dropped: the kernel does not know of it.
  StoreRelease(Word(params_.sq.tail), LoadAcquire(Word(params_.sq.head)));
  for (bool first = true;; first = false) {
    ReapFinals();
    const uint32_t inFlight = InFlight();
    if (inFlight == 0) return 0;
    if (!first && Clock::now() >= deadline) return inFlight;
    // Once is not enough: an operation between two states can be missed.
    SubmitCancelAll();
    Enter(0, 1, abi::kEnterGetEvents, 20 * 1000 * 1000);
  }
}

bool Ring::HasWork() const {
  if (LoadAcquire(Word(params_.cq.tail)) != *Word(params_.cq.head)) return true;
  return (LoadAcquire(Word(params_.sq.flags)) & (abi::kSqTaskrun | abi::kSqCqOverflow)) != 0;
}

void Ring::SuppressEvents(bool suppress) {
  // Only with deferred task work does the kernel set the flag of pending work before it looks at this one.
  if ((params_.flags & abi::kSetupDeferTaskrun) == 0) return;
  __atomic_store_n(Word(params_.cq.flags), suppress ? abi::kCqEventFdDisabled : 0, __ATOMIC_SEQ_CST);
  // Invariant: the store is visible before HasWork reads the kernel's flags, and the kernel orders its two accesses
  // the other way round. So either the kernel sees that events are wanted, or HasWork sees its flag.
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void Ring::Wake() {
  const uint64_t one = 1;
  // Fails only when the counter is at its limit, and then the descriptor is readable already.
  [[maybe_unused]] const ssize_t written = write(eventFd_, &one, sizeof one);
}

void Ring::ClearWake() {
  uint64_t count;
  [[maybe_unused]] const ssize_t got = read(eventFd_, &count, sizeof count);
}

}  // namespace millrace
