// Arenas and the work done on their bytes; see arena.h.
#include "arena.h"

#include <cerrno>
#include <string>

#include <sys/mman.h>

#include "addon.h"
#include "checksum.h"
#include "convert.h"

namespace millrace {

std::unique_ptr<Arena> Arena::Open(size_t bytes) {
  // The kernel aligns mappings to pages only: map more, and give back what lies outside.
  const size_t mapped = bytes + kAlignment;
  void* memory = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  auto* start = static_cast<uint8_t*>(memory);
  const size_t before = (kAlignment - reinterpret_cast<uintptr_t>(start) % kAlignment) % kAlignment;
  if (before > 0) munmap(start, before);
  munmap(start + before + bytes, mapped - before - bytes);

  std::unique_ptr<Arena> arena(new Arena());
  arena->memory_ = start + before;
  arena->bytes_ = bytes;
  // Cheaper to register and to use; a kernel without huge pages refuses, and nothing is lost.
  madvise(arena->memory_, bytes, MADV_HUGEPAGE);
  madvise(arena->memory_, bytes, MADV_DONTFORK);
  return arena;
}

Arena::~Arena() {
  if (!leaked_) munmap(memory_, bytes_);
}

napi_value ArenaOpen(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "arenaOpen");
  uint64_t bytes, ring;
  if (!args.Unsigned(0, "bytes", Arena::kMostBytes, &bytes) ||
      !args.Unsigned(1, "ring", Slab<OpenRing>::kMostHandle, &ring)) {
    return nullptr;
  }
  if (bytes == 0 || bytes % 4096 != 0) {
    ThrowRange(env, "arenaOpen: bytes must be a multiple of 4096 above zero");
    return nullptr;
  }
  auto arena = Arena::Open(bytes);
  if (arena == nullptr) {
    ThrowSystem(env, "mmap", errno);
    return nullptr;
  }
  napi_value buffer = ExternalArrayBuffer(env, arena->At(0), bytes);
  if (buffer == nullptr || napi_create_reference(env, buffer, 1, &arena->buffer) != napi_ok) {
    ThrowSystem(env, "napi_create_external_arraybuffer", ENOTSUP);
    return nullptr;
  }
  arena->ring = ring;
  Napi::Object result = Napi::Object::New(env);
  result.Set("address", static_cast<double>(reinterpret_cast<uintptr_t>(arena->At(0))));
  result.Set("buffer", buffer);
  result.Set("handle", static_cast<double>(Instance::Of(args)->arenas.Add(std::move(arena))));
  return result;
}

napi_value ArenaClose(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "arenaClose");
  Instance* instance = Instance::Of(args);
  uint64_t handle;
  const Arena* named = ArenaOf(args, 0);
  if (named == nullptr || !args.Unsigned(0, "arena", Slab<Arena>::kMostHandle, &handle)) return nullptr;
  const OpenRing* user = instance->rings.Find(named->ring);
  if (user != nullptr && user->ring->InFlight() > 0) {
    // The kernel may be writing into it: the ring has to be closed, and so drained, first.
    ThrowSystem(env, "arenaClose", EBUSY);
    return nullptr;
  }
  auto arena = instance->arenas.Take(handle);
  const bool kept = !instance->Detach(&arena->buffer) || instance->HasLeaked(arena->ring);
  if (kept) arena->Leak();
  return Napi::Boolean::New(env, !kept);
}

Arena* ArenaOf(const Arguments& args, size_t index) {
  uint64_t handle;
  if (!args.Unsigned(index, "arena", Slab<Arena>::kMostHandle, &handle)) return nullptr;
  Arena* arena = Instance::Of(args)->arenas.Find(handle);
  if (arena == nullptr) ThrowClosed(args.env(), "the arena is closed");
  return arena;
}

bool ArenaRange(const Arguments& args, size_t index, uint64_t length, uint8_t** out) {
  uint64_t offset;
  const Arena* arena = ArenaOf(args, index);
  if (arena == nullptr || !args.Unsigned(index + 1, "offset", Arena::kMostBytes, &offset)) return false;
  if (!arena->Contains(offset, length)) {
    ThrowRange(args.env(), "the range from " + std::to_string(offset) + ", " + std::to_string(length) +
                               " bytes long, leaves the arena of " + std::to_string(arena->bytes()) + " bytes");
    return false;
  }
  *out = arena->At(offset);
  return true;
}

napi_value ArenaChecksum(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "checksum");
  uint64_t length;
  uint32_t seed;
  uint8_t* bytes;
  if (!args.Unsigned(2, "length", Arena::kMostBytes, &length) || !args.Unsigned32(3, "seed", &seed) ||
      !ArenaRange(args, 0, length, &bytes)) {
    return nullptr;
  }
  return Number(env, Crc32(seed, bytes, length));
}

napi_value ArenaCopyWithChecksum(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "copyWithChecksum");
  uint64_t length;
  uint32_t seed;
  uint8_t *target, *source;
  if (!args.Unsigned(4, "length", Arena::kMostBytes, &length) || !args.Unsigned32(5, "seed", &seed) ||
      !ArenaRange(args, 0, length, &target) || !ArenaRange(args, 2, length, &source)) {
    return nullptr;
  }
  if (target < source + length && source < target + length && length > 0) {
    ThrowRange(env, "copyWithChecksum: the ranges overlap");
    return nullptr;
  }
  return Number(env, CopyCrc32(seed, target, source, length));
}

}  // namespace millrace
