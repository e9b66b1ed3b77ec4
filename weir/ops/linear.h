// Matrix products with packed weights. Activations are F32; a BF16 weight rounds its input to BF16 (nearest even) and accumulates in
// F32; an I8 weight rounds each row of its input to I8 and multiplies exactly (kernels/cpu/linear.h has the formula). Every output element
// is summed in one fixed order over k, so a row's bits never depend on the other rows of the batch, on the number of threads, or on the
// row's place in the batch.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "weir/kernels/cpu/linear.h"
#include "weir/ops/context.h"

namespace weir::ops {

using InputScale = weir::cpu::InputScale;

// What belongs to rows of an I8 source: w = scale · q, and an integer that is added to each sum of products (empty: zero).
struct RowScales {
  std::span<const float> scale;
  std::span<const int32_t> bias;
};

// Sums of at most this many products of bytes fit an I32.
constexpr int64_t kMaxInt8Columns = 131'071;

// How BF16 weights are kept: as they are, or in 12 bits each, without loss (kernels/cpu/coded.h), which gives the same results bit for bit.
enum class WeightCoding : uint8_t { kPlain, kTwelveBits };

// A weight matrix [n, k] (out, in) in the layout of the device's kernels. Filled once, then immutable; copies share the storage.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // type: kBF16, kF32 or kI8 (k at most kMaxInt8Columns; `input` says how its inputs are rounded). Zero until packed; coded, which only
  // BF16 can be, all rows must be packed.
  PackedMatrix(int64_t n, int64_t k, DType type, InputScale input = {}, WeightCoding coding = WeightCoding::kPlain);

  // `count` matrices in one allocation: the experts of a layer, each too small to get 2 MiB pages of its own. Reading them from
  // 4 KiB pages stops the hardware prefetcher at every page.
  static std::vector<PackedMatrix> many(int64_t count, int64_t n, int64_t k, DType type, WeightCoding coding = WeightCoding::kPlain);

  // Rows [row, row + source.dim(0)) := source [m, k] of F32, BF16 or F16, converted to type(). Threads of `pool` share the work;
  // source may be a read-only file mapping and is read once, in order.
  void pack_rows(ThreadPool& pool, int64_t row, const Tensor& source);
  // The same, without threads: for callers that already run one matrix per thread (experts).
  void pack_rows(int64_t row, const Tensor& source);
  // The same for a matrix of I8: source I8 [m, k] with the scales of its m rows.
  void pack_rows(ThreadPool& pool, int64_t row, const Tensor& source, const RowScales& scales);
  void pack_rows(int64_t row, const Tensor& source, const RowScales& scales);

  // False: some weights of a coded matrix, as packed or filled, could not be coded, or bytes() are not what such a matrix has; it must not
  // be used.
  bool is_whole() const;

  // Rows [begin, end) of a float matrix as they were rounded when packed: F32 [end - begin, k].
  Tensor unpack_rows(ThreadPool& pool, int64_t begin, int64_t end) const;

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  DType dtype() const { return type_; }
  WeightCoding coding() const { return coding_; }
  const InputScale& input_scale() const { return input_; }
  void set_input_scale(const InputScale& input) { input_ = input; }
  int64_t nbytes() const { return storage_.defined() ? storage_.nbytes() : 0; }
  const Tensor& storage() const { return storage_; }  // device layout, see ops/linear.cpp
  // The same, to be filled with what another matrix of that shape and type has there.
  std::span<std::byte> bytes() { return {static_cast<std::byte*>(storage_.raw()), static_cast<size_t>(nbytes())}; }
  // Of matrices that many() has made, together.
  static std::span<std::byte> bytes(std::span<PackedMatrix> all) {
    return all.empty() ? std::span<std::byte>() : std::span(all.front().bytes().data(), all.size() * all.front().bytes().size());
  }

  // What storage() will take, padding included.
  static int64_t packed_bytes(int64_t n, int64_t k, DType type, WeightCoding coding = WeightCoding::kPlain);

 private:
  int64_t n_ = 0, k_ = 0;
  DType type_ = DType::kBF16;
  WeightCoding coding_ = WeightCoding::kPlain;
  InputScale input_;
  Tensor storage_;
};

constexpr const char* kLinear = "linear";  // in a profile

// y = x wᵀ.  x [T, k] F32 (rows may be strided) -> [T, n] F32.  T = 0 is fine. what: a literal, its name in a profile.
Tensor linear(Context& ctx, const Tensor& x, const PackedMatrix& w, const char* what = kLinear);
// Projections of one input whose results lie side by side, [T, Σ n]: matrices of different types, which cannot be packed into one.
Tensor linear(Context& ctx, const Tensor& x, std::span<const PackedMatrix> stacked);
// y += x wᵀ, into an existing [T, n] F32 (the residual stream).
void linear_add(Context& ctx, const Tensor& x, const PackedMatrix& w, Tensor& y);

// Which experts each token goes to. ids [T, K] I32, weights [T, K] F32.
struct Routing {
  Tensor ids;
  Tensor weights;
};

// Gated feed-forward networks: expert e is down_e(silu(gate_e x) * up_e x), with gate_up[e] = [2 I_e, H] (gate rows first) and down[e] =
// [H, I_e]. Sizes and types may differ between experts (the shared expert is one more expert that every token chooses).
struct ExpertWeights {
  std::vector<PackedMatrix> gate_up;
  std::vector<PackedMatrix> down;
};

// How a product wants its input rounded.
struct InputForm {
  DType type = DType::kF32;  // of the weights
  InputScale scale;
  bool by_rows = false;  // row after row, for experts, which pick theirs; else in the panels of a product
  bool operator==(const InputForm&) const = default;
};

// The forms that several matrices want of one input, each once.
class InputForms {
 public:
  void add(const PackedMatrix& w);
  void add(std::span<const PackedMatrix> stacked);
  void add(const ExpertWeights& experts);  // an expert with an input scale of its own rounds F32 itself
  std::span<const InputForm> list() const { return {forms_.data(), count_}; }
  static constexpr size_t kMost = 8;

 private:
  void add(const InputForm& form);
  std::array<InputForm, kMost> forms_;
  size_t count_ = 0;
};

// Rows that several products read, rounded to each form they want once instead of once by each product. In the arena.
class RoundedRows {
 public:
  RoundedRows(const weir::cpu::LinearKernels& kernels, Context& ctx, int64_t rows, int64_t k, const InputForms& forms);  // to be filled
  int64_t rows() const { return rows_; }
  int64_t k() const { return k_; }
  DeviceKind device() const { return DeviceKind::kCpu; }
  const InputForms& forms() const { return forms_; }
  uint32_t* steps(size_t form) const { return steps_[form]; }
  // Device layout, see ops/rounded_rows.cpp. A form that was not asked for is a bug.
  const uint32_t* steps(const InputForm& form) const;

 private:
  int64_t rows_, k_;
  InputForms forms_;
  std::array<uint32_t*, InputForms::kMost> steps_{};
};

// x / sqrt(mean(x²) + eps) · w, rounded: what rms_norm() and then the products would do, bit for bit, in one pass over x [T, k] and with no
// F32 copy in memory. (The sum that x is was added by linear_add() or experts_add() while their results were in registers.)
RoundedRows rms_norm_rounded(Context& ctx, const Tensor& x, const Tensor& w, float eps, const InputForms& forms);
// The same without a norm.
RoundedRows round_rows(Context& ctx, const Tensor& x, const InputForms& forms);

Tensor linear(Context& ctx, const RoundedRows& x, const PackedMatrix& w, const char* what = kLinear);
Tensor linear(Context& ctx, const RoundedRows& x, std::span<const PackedMatrix> stacked);

// y[t] += sum_k weights[t,k] · expert_{ids[t,k]}(x[t]), summed by rising expert.  x [T, H]; y [T, H] F32.
// Each chosen expert's weights are read once per step for all tokens that chose it. Ids outside [0, E) are skipped (padding).
void experts_add(Context& ctx, const RoundedRows& x, const Routing& routing, const ExpertWeights& experts, Tensor& y);
void experts_add(Context& ctx, const Tensor& x, const Routing& routing, const ExpertWeights& experts, Tensor& y);

}  // namespace weir::ops
