// The part of the kernel's io_uring interface used here. Written out, because distributions ship headers older than
// their kernels: what the running kernel accepts is found out by trying. This is the one owner of these numbers;
// src/layout.ts mirrors them and a test compares both.
#pragma once

#include <cstddef>
#include <cstdint>

namespace millrace::abi {

struct SqeData {
  uint8_t opcode, flags;
  uint16_t ioprio;
  int32_t fd;
  uint64_t offset, address;
  uint32_t length, operationFlags;
  uint64_t userData;
  uint16_t bufferIndexOrGroup, personality;
  int32_t fileIndex;
  uint64_t address3, padding;
};
static_assert(sizeof(SqeData) == 64);
static_assert(offsetof(SqeData, bufferIndexOrGroup) == 40);

struct CqeData {
  uint64_t userData;
  int32_t result;
  uint32_t flags;
};
static_assert(sizeof(CqeData) == 16);

struct SqOffsets {
  uint32_t head, tail, ringMask, ringEntries, flags, dropped, array, reserved;
  uint64_t userAddress;
};
static_assert(sizeof(SqOffsets) == 40);

struct CqOffsets {
  uint32_t head, tail, ringMask, ringEntries, overflow, cqes, flags, reserved;
  uint64_t userAddress;
};
static_assert(sizeof(CqOffsets) == 40);

struct SetupParams {
  uint32_t sqEntries, cqEntries, flags, sqThreadCpu, sqThreadIdle, features, wqFd, reserved[3];
  SqOffsets sq;
  CqOffsets cq;
};
static_assert(sizeof(SetupParams) == 120);

struct EnterArgument {
  uint64_t signalMask;
  uint32_t signalMaskBytes;
  uint32_t minWaitMicroseconds;
  uint64_t timeout;
};
static_assert(sizeof(EnterArgument) == 24);

struct KernelTimespec {
  int64_t seconds, nanoseconds;
};

struct ResourceRegister {
  uint32_t count, flags;
  uint64_t reserved, data, tags;
};
static_assert(sizeof(ResourceRegister) == 32);

struct ResourceUpdate {
  uint32_t offset, reserved;
  uint64_t data, tags;
  uint32_t count, reserved2;
};
static_assert(sizeof(ResourceUpdate) == 32);

struct RingFdUpdate {
  uint32_t offset, reserved;
  uint64_t data;
};

struct BufferRingRegister {
  uint64_t ringAddress;
  uint32_t ringEntries;
  uint16_t group, flags;
  uint64_t reserved[3];
};
static_assert(sizeof(BufferRingRegister) == 40);

/** One entry of a provided-buffer ring; `tailOrReserved` of the first entry is the ring's tail. */
struct BufferRingEntry {
  uint64_t address;
  uint32_t length;
  uint16_t id, tailOrReserved;
};
static_assert(sizeof(BufferRingEntry) == 16);

struct ProbeOperation {
  uint8_t opcode, reserved;
  uint16_t flags;
  uint32_t reserved2;
};

struct Probe {
  uint8_t lastOpcode, count;
  uint16_t reserved;
  uint32_t reserved2[3];
  ProbeOperation operations[256];
};

constexpr long kSysSetup = 425, kSysEnter = 426, kSysRegister = 427;
constexpr uint64_t kMapSqRing = 0, kMapSqes = 0x10000000;

// io_uring_setup flags
constexpr uint32_t kSetupCqSize = 1u << 3, kSetupClamp = 1u << 4, kSetupSubmitAll = 1u << 7, kSetupCoopTaskrun = 1u << 8,
                   kSetupTaskrunFlag = 1u << 9, kSetupSingleIssuer = 1u << 12, kSetupDeferTaskrun = 1u << 13,
                   kSetupNoSqArray = 1u << 16;

// features reported by io_uring_setup
constexpr uint32_t kFeatureSingleMmap = 1u << 0, kFeatureNoDrop = 1u << 1, kFeatureSubmitStable = 1u << 2,
                   kFeatureFastPoll = 1u << 5, kFeatureExtArg = 1u << 8;

// io_uring_enter flags
constexpr uint32_t kEnterGetEvents = 1u << 0, kEnterExtArg = 1u << 3, kEnterRegisteredRing = 1u << 4;

// io_uring_register operations
constexpr uint32_t kRegisterEventFd = 4, kRegisterProbe = 8, kUnregisterBuffers = 1,
                   kRegisterBuffers2 = 15, kRegisterBuffersUpdate = 16, kRegisterRingFds = 20, kUnregisterRingFds = 21,
                   kRegisterBufferRing = 22;
constexpr uint32_t kResourceSparse = 1u << 0;

// flags the kernel or the application sets in the mapped rings
constexpr uint32_t kSqCqOverflow = 1u << 1, kSqTaskrun = 1u << 2;
constexpr uint32_t kCqEventFdDisabled = 1u << 0;

// operations
constexpr uint8_t kOpNop = 0, kOpFsync = 3, kOpReadFixed = 4, kOpWriteFixed = 5, kOpSendMsg = 9, kOpAccept = 13, kOpAsyncCancel = 14,
                  kOpConnect = 16, kOpFallocate = 17, kOpRead = 22, kOpWrite = 23, kOpSend = 26, kOpRecv = 27;

// flags of a submission
constexpr uint8_t kSqeBufferSelect = 1u << 5;
constexpr uint32_t kFsyncDataOnly = 1u << 0;
constexpr uint16_t kAcceptMultishot = 1u << 0;
constexpr uint16_t kRecvSendPollFirst = 1u << 0;
constexpr uint32_t kCancelAll = 1u << 0, kCancelAny = 1u << 2;

// flags of a completion
constexpr uint32_t kCqeBuffer = 1u << 0, kCqeMore = 1u << 1, kCqeSocketNonEmpty = 1u << 2;
constexpr uint32_t kCqeBufferShift = 16;

}  // namespace millrace::abi
