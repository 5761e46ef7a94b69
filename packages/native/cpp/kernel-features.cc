// Probes; see kernel-features.h.
#include "kernel-features.h"

#include <cerrno>
#include <cstdio>
#include <memory>

#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include "arena.h"
#include "checksum.h"
#include "convert.h"
#include "ring.h"

namespace millrace {

namespace {

struct Needed {
  uint8_t opcode;
  const char* name;
};

constexpr Needed kNeeded[] = {
    {abi::kOpFsync, "FSYNC"}, {abi::kOpReadFixed, "READ_FIXED"}, {abi::kOpWriteFixed, "WRITE_FIXED"},
    {abi::kOpSendMsg, "SENDMSG"}, {abi::kOpAccept, "ACCEPT"}, {abi::kOpAsyncCancel, "ASYNC_CANCEL"},
    {abi::kOpConnect, "CONNECT"}, {abi::kOpFallocate, "FALLOCATE"}, {abi::kOpRead, "READ"},
    {abi::kOpWrite, "WRITE"}, {abi::kOpSend, "SEND"}, {abi::kOpRecv, "RECV"},
};

Napi::Array MissingOperations(napi_env env, Ring* ring) {
  Napi::Array missing = Napi::Array::New(env);
  abi::Probe probe = {};
  const int answer = ring->Register(abi::kRegisterProbe, &probe, 256);
  for (const Needed& needed : kNeeded) {
    const bool known = answer >= 0 && (probe.operations[needed.opcode].flags & 1) != 0;
    if (!known) missing.Set(missing.Length(), needed.name);
  }
  return missing;
}

int TryBufferRing(Ring* ring) {
  constexpr size_t kBytes = 4096;
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return -ENOMEM;
  const int result = ring->RegisterBufferRing(1, 8, memory);
  // Unregistered with the ring, which goes first; the kernel holds the pages itself.
  munmap(memory, kBytes);
  return result;
}

int TryFixedBuffers(Ring* ring) {
  // As much as one step of growth of a broker's memory: a limit on locked memory must show here.
  constexpr size_t kBytes = size_t{16} << 20;
  const int table = ring->RegisterBufferTable(1);
  if (table < 0) return table;
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return -ENOMEM;
  madvise(memory, kBytes, MADV_HUGEPAGE);
  const int result = ring->UpdateBuffer(0, memory, kBytes);
  munmap(memory, kBytes);
  return result < 0 ? result : 0;
}

bool TryExternalBuffers(napi_env env) {
  auto* memory = new uint8_t[8]();
  napi_value buffer;
  const auto release = [](napi_env, void* data, void*) { delete[] static_cast<uint8_t*>(data); };
  if (napi_create_external_arraybuffer(env, memory, 8, release, nullptr, &buffer) == napi_ok) return true;
  delete[] memory;
  return false;
}

napi_value ReadSysctl(napi_env env) {
  std::unique_ptr<FILE, int (*)(FILE*)> file(fopen("/proc/sys/kernel/io_uring_disabled", "re"), fclose);
  int value;
  if (file && fscanf(file.get(), "%d", &value) == 1) return Number(env, value);
  napi_value null;
  return napi_get_null(env, &null) == napi_ok ? null : nullptr;
}

struct Number64 {
  const char* name;
  uint64_t value;
};

constexpr Number64 kNumbers[] = {
    {"SQE_BYTES", sizeof(abi::SqeData)}, {"SQE_FD", offsetof(abi::SqeData, fd)},
    {"SQE_OFFSET", offsetof(abi::SqeData, offset)}, {"SQE_ADDRESS", offsetof(abi::SqeData, address)},
    {"SQE_LENGTH", offsetof(abi::SqeData, length)}, {"SQE_OPERATION_FLAGS", offsetof(abi::SqeData, operationFlags)},
    {"SQE_USER_DATA", offsetof(abi::SqeData, userData)}, {"SQE_BUFFER", offsetof(abi::SqeData, bufferIndexOrGroup)},
    {"SQE_FILE_INDEX", offsetof(abi::SqeData, fileIndex)}, {"CQE_BYTES", sizeof(abi::CqeData)},
    {"CQE_RESULT", offsetof(abi::CqeData, result)}, {"CQE_FLAGS", offsetof(abi::CqeData, flags)},
    {"BUFFER_ENTRY_BYTES", sizeof(abi::BufferRingEntry)},
    {"BUFFER_ENTRY_LENGTH", offsetof(abi::BufferRingEntry, length)},
    {"BUFFER_ENTRY_ID", offsetof(abi::BufferRingEntry, id)},
    {"BUFFER_RING_TAIL", offsetof(abi::BufferRingEntry, tailOrReserved)}, {"CONTROL_WORK", offsetof(Control, work)},
    {"CONTROL_ACTIVE", offsetof(Control, active)}, {"CONTROL_REFERENCED", offsetof(Control, referenced)},
    {"CONTROL_FINALS", offsetof(Control, finals)}, {"MESSAGE_HEADER_BYTES", sizeof(msghdr)},
    {"ARENA_MOST_BYTES", Arena::kMostBytes}, {"OP_NOP", abi::kOpNop}, {"OP_FSYNC", abi::kOpFsync},
    {"OP_READ_FIXED", abi::kOpReadFixed}, {"OP_WRITE_FIXED", abi::kOpWriteFixed}, {"OP_SENDMSG", abi::kOpSendMsg},
    {"OP_ACCEPT", abi::kOpAccept}, {"OP_ASYNC_CANCEL", abi::kOpAsyncCancel}, {"OP_CONNECT", abi::kOpConnect},
    {"OP_FALLOCATE", abi::kOpFallocate}, {"OP_READ", abi::kOpRead}, {"OP_WRITE", abi::kOpWrite},
    {"OP_SEND", abi::kOpSend}, {"OP_RECV", abi::kOpRecv}, {"SQE_BUFFER_SELECT", abi::kSqeBufferSelect},
    {"FSYNC_DATA_ONLY", abi::kFsyncDataOnly}, {"ACCEPT_MULTISHOT", abi::kAcceptMultishot},
    {"RECVSEND_POLL_FIRST", abi::kRecvSendPollFirst}, {"CANCEL_ALL", abi::kCancelAll}, {"CANCEL_ANY", abi::kCancelAny},
    {"CQE_BUFFER", abi::kCqeBuffer}, {"CQE_MORE", abi::kCqeMore}, {"CQE_SOCKET_NON_EMPTY", abi::kCqeSocketNonEmpty},
    {"CQE_BUFFER_SHIFT", abi::kCqeBufferShift}, {"SQ_CQ_OVERFLOW", abi::kSqCqOverflow}, {"SQ_TASKRUN", abi::kSqTaskrun},
    {"ENTER_GET_EVENTS", abi::kEnterGetEvents}, {"SETUP_SINGLE_ISSUER", abi::kSetupSingleIssuer},
    {"SETUP_DEFER_TASKRUN", abi::kSetupDeferTaskrun}, {"SETUP_TASKRUN_FLAG", abi::kSetupTaskrunFlag},
    {"SETUP_COOP_TASKRUN", abi::kSetupCoopTaskrun}, {"SETUP_NO_SQ_ARRAY", abi::kSetupNoSqArray},
    {"MSG_WAITALL", MSG_WAITALL}, {"SOCK_CLOEXEC", SOCK_CLOEXEC}, {"SOCKET_ADDRESS_BYTES", sizeof(sockaddr_in6)},
};

}  // namespace

napi_value KernelFeatures(napi_env env, napi_callback_info info) {
  Napi::Object result = Napi::Object::New(env);
  utsname system = {};
  uname(&system);
  rlimit locked = {};
  getrlimit(RLIMIT_MEMLOCK, &locked);
  result.Set("release", system.release);
  result.Set("lockedMemoryBytes",
             locked.rlim_cur == RLIM_INFINITY ? Number(env, -1) : Number(env, static_cast<double>(locked.rlim_cur)));
  result.Set("externalBuffers", TryExternalBuffers(env));
  result.Set("disabledBySysctl", ReadSysctl(env));
  result.Set("checksum", Crc32Method());

  SetupFailure failure;
  const auto ring = Ring::Open(8, 16, UINT32_MAX, &failure);
  if (ring == nullptr) {
    Napi::Object setup = Napi::Object::New(env);
    setup.Set("call", failure.call);
    setup.Set("errno", failure.error);
    result.Set("setup", setup);
    return result;
  }
  result.Set("setup", Napi::Env(env).Null());
  result.Set("setupFlags", static_cast<double>(ring->params().flags));
  result.Set("features", static_cast<double>(ring->params().features));
  result.Set("missingOperations", MissingOperations(env, ring.get()));
  result.Set("bufferRing", TryBufferRing(ring.get()));
  result.Set("fixedBuffers", TryFixedBuffers(ring.get()));
  return result;
}

napi_value Layout(napi_env env, napi_callback_info info) {
  Napi::Object result = Napi::Object::New(env);
  for (const Number64& number : kNumbers) result.Set(number.name, static_cast<double>(number.value));
  return result;
}

}  // namespace millrace
