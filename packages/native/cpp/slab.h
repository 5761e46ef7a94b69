// Objects known to JavaScript by number: a handle names one object for ever and is refused after that object is closed.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace millrace {

template <typename T>
class Slab {
 public:
  /** The largest handle; it stays exact as a JavaScript number. */
  static constexpr uint64_t kMostHandle = (uint64_t{1} << 52) - 1;

  uint64_t Add(std::unique_ptr<T> object) {
    size_t index = 0;
    while (index < slots_.size() && slots_[index].object) index++;
    if (index == slots_.size()) slots_.emplace_back();
    slots_[index].object = std::move(object);
    return (uint64_t{slots_[index].generation} << 20) | index;
  }

  T* Find(uint64_t handle) const {
    const size_t index = handle & 0xfffff;
    if (index >= slots_.size() || slots_[index].generation != handle >> 20) return nullptr;
    return slots_[index].object.get();
  }

  std::unique_ptr<T> Take(uint64_t handle) {
    if (Find(handle) == nullptr) return nullptr;
    Slot& slot = slots_[handle & 0xfffff];
    slot.generation++;
    return std::move(slot.object);
  }

  std::vector<uint64_t> Handles() const {
    std::vector<uint64_t> handles;
    for (size_t i = 0; i < slots_.size(); i++) {
      if (slots_[i].object) handles.push_back((uint64_t{slots_[i].generation} << 20) | i);
    }
    return handles;
  }

 private:
  struct Slot {
    std::unique_ptr<T> object;
    uint32_t generation = 1;
  };

  std::vector<Slot> slots_;
};

}  // namespace millrace
