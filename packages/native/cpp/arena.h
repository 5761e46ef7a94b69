// Page-aligned memory of the addon that the kernel may read and write while I/O is in flight.
#pragma once

#include <node_api.h>

#include <cstdint>
#include <memory>

namespace millrace {

/**
 * One mapping, aligned to a huge page, committed by the kernel as it is touched or registered. It never moves, the
 * garbage collector never sees it, and a child between fork and exec does not inherit it.
 */
class Arena {
 public:
  static constexpr size_t kAlignment = size_t{2} << 20;
  /** The kernel registers at most this much as one buffer. */
  static constexpr uint64_t kMostBytes = uint64_t{1} << 30;

  /** Null with errno set when the kernel refuses. */
  static std::unique_ptr<Arena> Open(size_t bytes);
  /** Unmaps. Invariant: its ring has nothing in flight, and no ArrayBuffer over it is attached; or `Leak` was called. */
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  bool Contains(uint64_t offset, uint64_t length) const { return offset <= bytes_ && length <= bytes_ - offset; }
  uint8_t* At(uint64_t offset) const { return memory_ + offset; }
  size_t bytes() const { return bytes_; }
  void Leak() { leaked_ = true; }

  /** The ArrayBuffer JavaScript sees; detached before the memory goes. */
  napi_ref buffer = nullptr;
  /** The ring whose operations use this memory, or 0. */
  uint64_t ring = 0;

 private:
  Arena() = default;

  uint8_t* memory_ = nullptr;
  size_t bytes_ = 0;
  bool leaked_ = false;
};

class Arguments;
/** The open arena an argument names; null with an exception pending. */
Arena* ArenaOf(const Arguments& args, size_t index);
/** A range inside an arena, from two arguments in a row, handle and offset; false with an exception pending. */
bool ArenaRange(const Arguments& args, size_t index, uint64_t length, uint8_t** out);

/** arenaOpen(bytes, ring) -> { handle, address, buffer }: memory for the operations of one ring, or of none (0). */
napi_value ArenaOpen(napi_env env, napi_callback_info info);
/**
 * arenaClose(handle) -> boolean: false when the memory stays mapped, because its ring was leaked or JavaScript could
 * not be made to give it back. Throws EBUSY while its ring has operations in flight.
 */
napi_value ArenaClose(napi_env env, napi_callback_info info);
/** checksum(arena, offset, length, seed) -> CRC-32 */
napi_value ArenaChecksum(napi_env env, napi_callback_info info);
/** copyWithChecksum(targetArena, targetOffset, sourceArena, sourceOffset, length, seed) -> CRC-32 */
napi_value ArenaCopyWithChecksum(napi_env env, napi_callback_info info);

}  // namespace millrace
