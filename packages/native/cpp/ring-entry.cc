// Rings as JavaScript sees them; see ring-entry.h.
#include "ring-entry.h"

#include <cerrno>

#include "addon.h"
#include "convert.h"

namespace millrace {

namespace {

OpenRing* FindRing(const Arguments& args) {
  uint64_t handle;
  if (!args.Unsigned(0, "ring", Slab<OpenRing>::kMostHandle, &handle)) return nullptr;
  OpenRing* open = Instance::Of(args)->rings.Find(handle);
  if (open == nullptr) ThrowClosed(args.env(), "the ring is closed");
  return open;
}

bool Share(Napi::Object* result, const char* name, void* memory, size_t bytes, napi_ref* reference) {
  napi_value buffer = ExternalArrayBuffer(result->Env(), memory, bytes);
  if (buffer == nullptr || napi_create_reference(result->Env(), buffer, 1, reference) != napi_ok) return false;
  result->Set(name, buffer);
  return true;
}

void SetWords(Napi::Object* result, const abi::SetupParams& params) {
  const auto word = [&](const char* name, uint32_t offset) { result->Set(name, static_cast<double>(offset / 4)); };
  word("sqHead", params.sq.head);
  word("sqTail", params.sq.tail);
  word("sqFlags", params.sq.flags);
  word("cqHead", params.cq.head);
  word("cqTail", params.cq.tail);
  word("cqOverflow", params.cq.overflow);
  word("cqes", params.cq.cqes);
  result->Set("sqEntries", static_cast<double>(params.sqEntries));
  result->Set("cqEntries", static_cast<double>(params.cqEntries));
  result->Set("flags", static_cast<double>(params.flags));
  result->Set("features", static_cast<double>(params.features));
}

}  // namespace

napi_value RingOpen(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "ringOpen");
  uint64_t entries, completions;
  uint32_t allowedFlags;
  if (!args.Unsigned(0, "entries", 32768, &entries) || !args.Unsigned(1, "completions", 65536, &completions) ||
      !args.Unsigned32(2, "allowedFlags", &allowedFlags)) {
    return nullptr;
  }
  Napi::Object result = Napi::Object::New(env);
  SetupFailure failure;
  auto ring = Ring::Open(static_cast<uint32_t>(entries), static_cast<uint32_t>(completions), allowedFlags, &failure);
  if (ring == nullptr) {
    result.Set("call", failure.call);
    result.Set("errno", failure.error);
    return result;
  }
  auto open = std::make_unique<OpenRing>();
  Instance* instance = Instance::Of(args);
  const bool shared = Share(&result, "ring", ring->ringMemory(), ring->ringBytes(), &open->ringBuffer) &&
                      Share(&result, "sqes", ring->sqeMemory(), ring->sqeBytes(), &open->sqeBuffer) &&
                      Share(&result, "control", ring->control(), Ring::kControlBytes, &open->controlBuffer);
  SetWords(&result, ring->params());
  open->ring = std::move(ring);
  if (!shared) {
    instance->Close(instance->rings.Add(std::move(open)), Ring::Clock::now(), false);
    ThrowSystem(env, "napi_create_external_arraybuffer", ENOTSUP);
    return nullptr;
  }
  result.Set("handle", static_cast<double>(instance->rings.Add(std::move(open))));
  return result;
}

napi_value RingStart(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "ringStart");
  napi_value callback;
  OpenRing* open = FindRing(args);
  if (open == nullptr || !args.Function(1, "turn", &callback)) return nullptr;
  if (open->coupling != nullptr) {
    ThrowType(env, "ringStart: the ring is started already");
    return nullptr;
  }
  open->coupling = Instance::Of(args)->Couple(open->ring.get(), callback);
  return open->coupling == nullptr ? nullptr : Undefined(env);
}

napi_value RingReference(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "ringReference");
  const OpenRing* open = FindRing(args);
  if (open == nullptr) return nullptr;
  if (open->coupling != nullptr) open->coupling->Reference(true);
  return Undefined(env);
}

napi_value RingEnter(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "ringEnter");
  uint32_t submit, minComplete, flags;
  OpenRing* open = FindRing(args);
  if (open == nullptr || !args.Unsigned32(1, "submit", &submit) || !args.Unsigned32(2, "minComplete", &minComplete) ||
      !args.Unsigned32(3, "flags", &flags)) {
    return nullptr;
  }
  if ((flags & ~abi::kEnterGetEvents) != 0) {
    ThrowRange(env, "ringEnter: flags other than GETEVENTS would need memory that JavaScript does not own");
    return nullptr;
  }
  return Number(env, open->ring->Enter(submit, minComplete, flags, -1));
}

napi_value RingRegisterBufferTable(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "ringRegisterBufferTable");
  uint64_t slots;
  OpenRing* open = FindRing(args);
  if (open == nullptr || !args.Unsigned(1, "slots", 16384, &slots)) return nullptr;
  return Number(env, open->ring->RegisterBufferTable(static_cast<uint32_t>(slots)));
}

napi_value RingRegisterBuffer(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "ringRegisterBuffer");
  uint64_t slot;
  OpenRing* open = FindRing(args);
  if (open == nullptr || !args.Unsigned(1, "slot", 16383, &slot)) return nullptr;
  const Arena* arena = ArenaOf(args, 2);
  if (arena == nullptr) return nullptr;
  return Number(env, open->ring->UpdateBuffer(static_cast<uint32_t>(slot), arena->At(0), arena->bytes()));
}

napi_value RingRegisterBufferRing(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "ringRegisterBufferRing");
  uint64_t group, entries;
  uint8_t* memory;
  OpenRing* open = FindRing(args);
  if (open == nullptr || !args.Unsigned(1, "group", 65535, &group) || !args.Unsigned(2, "entries", 32768, &entries) ||
      !ArenaRange(args, 3, entries * sizeof(abi::BufferRingEntry), &memory)) {
    return nullptr;
  }
  return Number(env, open->ring->RegisterBufferRing(static_cast<uint16_t>(group), static_cast<uint32_t>(entries),
                                                    memory));
}

napi_value RingClose(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "ringClose");
  uint64_t handle, waitMs;
  if (FindRing(args) == nullptr || !args.Unsigned(0, "ring", Slab<OpenRing>::kMostHandle, &handle) ||
      !args.Unsigned(1, "waitMs", 60000, &waitMs)) {
    return nullptr;
  }
  const auto deadline = Ring::Clock::now() + std::chrono::milliseconds(waitMs);
  return Number(env, Instance::Of(args)->Close(handle, deadline, false));
}

}  // namespace millrace
