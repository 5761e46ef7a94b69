// Registers the entry points, and ends everything when the environment does.
#include "addon.h"

#include <cstdio>

#include "checksum.h"
#include "file.h"
#include "kernel-features.h"
#include "ring-entry.h"
#include "socket.h"

namespace millrace {

Instance* Instance::Create(napi_env env) {
  auto* instance = new Instance();
  instance->env = env;
  if (napi_add_async_cleanup_hook(env, OnEnvironmentEnds, instance, &instance->hook_) == napi_ok) return instance;
  delete instance;
  return nullptr;
}

LoopCoupling* Instance::Couple(Ring* ring, napi_value callback) {
  LoopCoupling* coupling = LoopCoupling::Start(env, ring, callback, OnCouplingClosed, this);
  if (coupling != nullptr) couplings_++;
  return coupling;
}

bool Instance::Detach(napi_ref* buffer) {
  napi_value value;
  size_t bytes = 0;
  int64_t total;
  if (*buffer == nullptr) return true;
  const bool detached = napi_get_reference_value(env, *buffer, &value) == napi_ok && value != nullptr &&
                        napi_get_arraybuffer_info(env, value, nullptr, &bytes) == napi_ok &&
                        napi_detach_arraybuffer(env, value) == napi_ok;
  // The engine takes off what ExternalArrayBuffer has taken off before.
  if (detached) napi_adjust_external_memory(env, static_cast<int64_t>(bytes), &total);
  napi_delete_reference(env, *buffer);
  *buffer = nullptr;
  return detached;
}

void Instance::Forget(napi_ref* buffer) {
  if (*buffer != nullptr) napi_delete_reference(env, *buffer);
  *buffer = nullptr;
}

uint32_t Instance::Close(uint64_t handle, Ring::Clock::time_point deadline, bool environmentEnds) {
  const auto open = rings.Take(handle);
  const uint32_t inFlight = open->ring->Drain(deadline);
  if (open->coupling != nullptr) open->coupling->Close();
  bool detached = true;
  for (napi_ref* buffer : {&open->ringBuffer, &open->sqeBuffer, &open->controlBuffer}) {
    if (environmentEnds) {
      Forget(buffer);
    } else {
      detached = Detach(buffer) && detached;
    }
  }
  if (inFlight > 0) leaked_.insert(handle);
  if (inFlight > 0 || !detached) open->ring->Leak();
  return inFlight;
}

void Instance::OnEnvironmentEnds(napi_async_cleanup_hook_handle hook, void* data) {
  auto* instance = static_cast<Instance*>(data);
  instance->ending_ = true;
  const auto deadline = Ring::Clock::now() + std::chrono::seconds(2);
  uint32_t inFlight = 0;
  for (const uint64_t ring : instance->rings.Handles()) inFlight += instance->Close(ring, deadline, true);
  for (const uint64_t handle : instance->arenas.Handles()) {
    const auto arena = instance->arenas.Take(handle);
    instance->Forget(&arena->buffer);
    if (instance->HasLeaked(arena->ring)) arena->Leak();
  }
  if (inFlight > 0) {
    fprintf(stderr, "millrace: %u I/O operations did not end within 2 s; their ring and memory stay until the process ends\n",
            inFlight);
  }
  instance->FinishIfIdle();
}

void Instance::OnCouplingClosed(void* data) {
  auto* instance = static_cast<Instance*>(data);
  instance->couplings_--;
  instance->FinishIfIdle();
}

void Instance::FinishIfIdle() {
  if (!ending_ || couplings_ > 0) return;
  napi_remove_async_cleanup_hook(hook_);
  delete this;
}

namespace {

struct EntryPoint {
  const char* name;
  napi_callback function;
};

constexpr EntryPoint kEntryPoints[] = {
    {"arenaClose", ArenaClose}, {"arenaOpen", ArenaOpen}, {"copyWithChecksum", ArenaCopyWithChecksum},
    {"checksum", ArenaChecksum}, {"checksumBytes", ChecksumBytes}, {"checksumBytesWith", ChecksumBytesWith},
    {"descriptorClose", DescriptorClose}, {"fileLock", FileLock}, {"fileOpen", FileOpen},
    {"fileSystem", FileSystem}, {"fileSystemSync", FileSystemSync},
    {"kernelFeatures", KernelFeatures}, {"layout", Layout},
    {"ringClose", RingClose}, {"ringEnter", RingEnter}, {"ringOpen", RingOpen},
    {"ringReference", RingReference}, {"ringRegisterBuffer", RingRegisterBuffer},
    {"ringRegisterBufferRing", RingRegisterBufferRing}, {"ringRegisterBufferTable", RingRegisterBufferTable},
    {"ringStart", RingStart}, {"socketDial", SocketDial}, {"socketListen", SocketListen},
    {"socketPeer", SocketPeer}, {"socketShutdown", SocketShutdown},
};

}  // namespace

}  // namespace millrace

NAPI_MODULE_INIT() {
  auto* instance = millrace::Instance::Create(env);
  if (instance == nullptr) {
    napi_throw_error(env, nullptr, "the environment takes no cleanup hook");
    return nullptr;
  }
  for (const auto& entry : millrace::kEntryPoints) {
    napi_value function;
    if (napi_create_function(env, entry.name, NAPI_AUTO_LENGTH, entry.function, instance, &function) != napi_ok ||
        napi_set_named_property(env, exports, entry.name, function) != napi_ok) {
      return nullptr;
    }
  }
  return exports;
}
