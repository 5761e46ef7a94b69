// CRC-32 by folding with carry-less multiplication (Gopal et al., "Fast CRC Computation for Generic Polynomials Using
// PCLMULQDQ", Intel 2009, in the bit-reflected form), and by tables where the CPU cannot.
#include "checksum.h"

#include <array>
#include <cstring>
#include <string>

#include "convert.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace millrace {

namespace {

constexpr uint32_t kPolynomial = 0x04c11db7;
constexpr uint32_t kReflectedPolynomial = 0xedb88320;

using Tables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) ? kReflectedPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (uint32_t byte = 0; byte < 256; byte++) {
    for (size_t k = 1; k < 8; k++) tables[k][byte] = (tables[k - 1][byte] >> 8) ^ tables[0][tables[k - 1][byte] & 0xff];
  }
  return tables;
}

constexpr Tables kTables = MakeTables();

/** Slicing by eight. `state` is the inverted checksum, as in every function below. */
template <bool kCopy>
uint32_t FoldTable(uint32_t state, uint8_t* target, const uint8_t* source, size_t length) {
  if constexpr (kCopy) memcpy(target, source, length);
  for (; length >= 8; length -= 8, source += 8) {
    uint64_t word;
    memcpy(&word, source, 8);
    word ^= state;
    state = 0;
    for (int k = 0; k < 8; k++) state ^= kTables[7 - k][(word >> (8 * k)) & 0xff];
  }
  for (; length > 0; length--, source++) state = (state >> 8) ^ kTables[0][(state ^ *source) & 0xff];
  return state;
}

#if defined(__x86_64__)

/** x^bits mod P, reflected and shifted by one, as the reflected multiplication wants it. */
constexpr uint64_t FoldConstant(unsigned bits) {
  uint32_t remainder = 1;
  for (unsigned i = 0; i < bits; i++) remainder = (remainder << 1) ^ ((remainder >> 31) ? kPolynomial : 0);
  uint64_t reflected = 0;
  for (unsigned i = 0; i < 32; i++) reflected |= uint64_t{(remainder >> i) & 1} << (31 - i);
  return reflected << 1;
}
// The published constants of the method hold the computation.
static_assert(FoldConstant(512 + 32) == 0x154442bd4 && FoldConstant(512 - 32) == 0x1c6e41596);
static_assert(FoldConstant(128 + 32) == 0x1751997d0 && FoldConstant(128 - 32) == 0x0ccaa009e);
static_assert(FoldConstant(64) == 0x163cd6124);
constexpr uint64_t kReflectedWithTop = 0x1db710641, kBarrett = 0x1f7011641;

#define MILLRACE_PCLMUL __attribute__((target("pclmul,sse4.1"), always_inline)) inline
#define MILLRACE_VPCLMUL __attribute__((target("vpclmulqdq,avx2,pclmul,sse4.1"), always_inline)) inline

MILLRACE_PCLMUL __m128i Take16(uint8_t* target, const uint8_t* source, bool copy) {
  const __m128i value = _mm_loadu_si128(reinterpret_cast<const __m128i*>(source));
  if (copy) _mm_storeu_si128(reinterpret_cast<__m128i*>(target), value);
  return value;
}

MILLRACE_PCLMUL __m128i Fold16(__m128i value, __m128i constants, __m128i next) {
  const __m128i low = _mm_clmulepi64_si128(value, constants, 0x00);
  const __m128i high = _mm_clmulepi64_si128(value, constants, 0x11);
  return _mm_xor_si128(_mm_xor_si128(low, high), next);
}

/** The 128 bits left of any amount of folding become the 32 of the checksum. */
MILLRACE_PCLMUL uint32_t Reduce(__m128i value) {
  const __m128i mask = _mm_setr_epi32(-1, 0, -1, 0);
  const __m128i by128 = _mm_set_epi64x(FoldConstant(128 - 32), FoldConstant(128 + 32));
  value = _mm_xor_si128(_mm_srli_si128(value, 8), _mm_clmulepi64_si128(value, by128, 0x10));
  const __m128i by64 = _mm_set_epi64x(0, FoldConstant(64));
  value = _mm_xor_si128(_mm_srli_si128(value, 4), _mm_clmulepi64_si128(_mm_and_si128(value, mask), by64, 0x00));
  const __m128i barrett = _mm_set_epi64x(kBarrett, kReflectedWithTop);
  __m128i quotient = _mm_clmulepi64_si128(_mm_and_si128(value, mask), barrett, 0x10);
  quotient = _mm_clmulepi64_si128(_mm_and_si128(quotient, mask), barrett, 0x00);
  return static_cast<uint32_t>(_mm_extract_epi32(_mm_xor_si128(value, quotient), 1));
}

/** `length` is a multiple of 16 above zero. */
template <bool kCopy>
__attribute__((target("pclmul,sse4.1"))) uint32_t FoldPclmul(uint32_t state, uint8_t* target, const uint8_t* source,
                                                            size_t length) {
  const __m128i by128 = _mm_set_epi64x(FoldConstant(128 - 32), FoldConstant(128 + 32));
  size_t at = 16;
  __m128i value = _mm_xor_si128(Take16(target, source, kCopy), _mm_cvtsi32_si128(static_cast<int>(state)));
  if (length >= 128) {
    const __m128i by512 = _mm_set_epi64x(FoldConstant(512 - 32), FoldConstant(512 + 32));
    __m128i lanes[4] = {value, Take16(target + 16, source + 16, kCopy), Take16(target + 32, source + 32, kCopy),
                        Take16(target + 48, source + 48, kCopy)};
    for (at = 64; length - at >= 64; at += 64) {
      for (size_t i = 0; i < 4; i++) {
        lanes[i] = Fold16(lanes[i], by512, Take16(target + at + i * 16, source + at + i * 16, kCopy));
      }
    }
    value = lanes[0];
    for (size_t i = 1; i < 4; i++) value = Fold16(value, by128, lanes[i]);
  }
  for (; at < length; at += 16) value = Fold16(value, by128, Take16(target + at, source + at, kCopy));
  return Reduce(value);
}

MILLRACE_VPCLMUL __m256i Take32(uint8_t* target, const uint8_t* source, bool copy) {
  const __m256i value = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(source));
  if (copy) _mm256_storeu_si256(reinterpret_cast<__m256i*>(target), value);
  return value;
}

/** The same, 256 bytes at a step. `length` is a multiple of 16 and at least 256. */
template <bool kCopy>
__attribute__((target("vpclmulqdq,avx2,pclmul,sse4.1"))) uint32_t FoldVpclmul(uint32_t state, uint8_t* target,
                                                                             const uint8_t* source, size_t length) {
  constexpr size_t kLanes = 8, kStep = kLanes * 32;
  const __m256i byStep = _mm256_set_epi64x(FoldConstant(kStep * 8 - 32), FoldConstant(kStep * 8 + 32),
                                           FoldConstant(kStep * 8 - 32), FoldConstant(kStep * 8 + 32));
  __m256i lanes[kLanes];
  for (size_t i = 0; i < kLanes; i++) lanes[i] = Take32(target + i * 32, source + i * 32, kCopy);
  lanes[0] = _mm256_xor_si256(lanes[0], _mm256_zextsi128_si256(_mm_cvtsi32_si128(static_cast<int>(state))));
  size_t at = kStep;
  for (; length - at >= kStep; at += kStep) {
    for (size_t i = 0; i < kLanes; i++) {
      const __m256i next = Take32(target + at + i * 32, source + at + i * 32, kCopy);
      const __m256i low = _mm256_clmulepi64_epi128(lanes[i], byStep, 0x00);
      const __m256i high = _mm256_clmulepi64_epi128(lanes[i], byStep, 0x11);
      lanes[i] = _mm256_xor_si256(_mm256_xor_si256(low, high), next);
    }
  }
  const __m128i by128 = _mm_set_epi64x(FoldConstant(128 - 32), FoldConstant(128 + 32));
  __m128i value = _mm256_castsi256_si128(lanes[0]);
  value = Fold16(value, by128, _mm256_extracti128_si256(lanes[0], 1));
  for (size_t i = 1; i < kLanes; i++) {
    value = Fold16(value, by128, _mm256_castsi256_si128(lanes[i]));
    value = Fold16(value, by128, _mm256_extracti128_si256(lanes[i], 1));
  }
  for (; at < length; at += 16) value = Fold16(value, by128, Take16(target + at, source + at, kCopy));
  return Reduce(value);
}

#endif  // __x86_64__

enum class Method { kTable, kPclmul, kVpclmul };

Method BestMethod() {
#if defined(__x86_64__)
  const bool pclmul = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
  if (pclmul && __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx2")) return Method::kVpclmul;
  if (pclmul) return Method::kPclmul;
#endif
  return Method::kTable;
}

const Method kBest = BestMethod();

template <bool kCopy>
uint32_t Compute(Method method, uint32_t seed, uint8_t* target, const uint8_t* source, size_t length) {
  uint32_t state = ~seed;
  size_t done = 0;
#if defined(__x86_64__)
  const size_t folded = length & ~size_t{15};
  if (method == Method::kVpclmul && folded >= 256) {
    state = FoldVpclmul<kCopy>(state, target, source, folded);
    done = folded;
  } else if (method != Method::kTable && folded > 0) {
    state = FoldPclmul<kCopy>(state, target, source, folded);
    done = folded;
  }
#endif
  if (done < length) state = FoldTable<kCopy>(state, kCopy ? target + done : nullptr, source + done, length - done);
  return ~state;
}

}  // namespace

uint32_t Crc32(uint32_t seed, const uint8_t* bytes, size_t length) {
  return Compute<false>(kBest, seed, nullptr, bytes, length);
}

uint32_t CopyCrc32(uint32_t seed, uint8_t* target, const uint8_t* source, size_t length) {
  return Compute<true>(kBest, seed, target, source, length);
}

const char* Crc32Method() {
  return kBest == Method::kVpclmul ? "vpclmul" : kBest == Method::kPclmul ? "pclmul" : "table";
}

napi_value ChecksumBytes(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "checksumBytes");
  const uint8_t* bytes;
  size_t length;
  uint32_t seed;
  if (!args.Bytes(0, "bytes", &bytes, &length) || !args.Unsigned32(1, "seed", &seed)) return nullptr;
  return Number(env, Crc32(seed, bytes, length));
}

napi_value ChecksumBytesWith(napi_env env, napi_callback_info info) {
  const Arguments args(env, info, "checksumBytesWith");
  std::string name;
  const uint8_t* bytes;
  size_t length;
  uint32_t seed;
  if (!args.Text(0, "method", 16, &name) || !args.Bytes(1, "bytes", &bytes, &length) ||
      !args.Unsigned32(2, "seed", &seed)) {
    return nullptr;
  }
  const Method method = name == "vpclmul" ? Method::kVpclmul : name == "pclmul" ? Method::kPclmul : Method::kTable;
  if (static_cast<int>(method) > static_cast<int>(kBest)) return Undefined(env);
  return Number(env, Compute<false>(method, seed, nullptr, bytes, length));
}

}  // namespace millrace
