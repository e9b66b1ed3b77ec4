// Inputs of products, rounded once to what pack_panel makes of them: of one row after the other, or of the groups that a product
// multiplies.
#include <algorithm>

#include "weir/kernels/cpu/elementwise.h"
#include "weir/kernels/cpu/isa.h"
#include "weir/ops/linear_cpu.h"
#include "weir/ops/not_built.h"

namespace weir::ops {
namespace {

void check_input(const Tensor& x, const char* what) {
  WEIR_CHECK(x.rank() == 2 && x.dtype() == DType::kF32, what, ": ", name(x.dtype()), " ", x.shape().str());
  if (x.device() != DeviceKind::kCpu) not_built(what, x.device());
}

// Rows of group g, `stride` apart, in every form.
void round_group(const LinearKernels& kernels, const float* rows, int64_t stride, const Groups& groups, int64_t g, const RoundedRows& out) {
  const auto forms = out.forms().list();
  for (size_t f = 0; f < forms.size(); ++f) {
    const auto& pack = product_kernels(kernels, forms[f].type).pack_panel;
    const int64_t steps = num_steps(out.k(), forms[f].type);
    uint32_t* to = out.steps(f) + groups.begin(g) * steps;
    if (!forms[f].by_rows)
      pack(rows, stride, groups.size(g), out.k(), forms[f].scale, to);
    else
      for (int r = 0; r < groups.size(g); ++r) pack(rows + r * stride, stride, 1, out.k(), forms[f].scale, to + r * steps);
  }
}

// Groups per thread that outweigh waking one.
int64_t min_groups(int64_t k) { return std::max<int64_t>(1, 16'384 / std::max<int64_t>(1, kGroupRows * k)); }

}  // namespace

void InputForms::add(const InputForm& form) {
  if (std::find(forms_.begin(), forms_.begin() + static_cast<ptrdiff_t>(count_), form) != forms_.begin() + static_cast<ptrdiff_t>(count_))
    return;
  WEIR_CHECK(count_ < kMost, "more than ", kMost, " forms of one input");
  forms_[count_++] = form;
}

void InputForms::add(const PackedMatrix& w) { add(InputForm{w.dtype(), w.input_scale(), /*by_rows=*/false}); }

void InputForms::add(std::span<const PackedMatrix> stacked) {
  for (const PackedMatrix& w : stacked) add(w);
}

void InputForms::add(const ExpertWeights& experts) {
  for (const PackedMatrix& w : experts.gate_up) {
    const bool is_static = w.input_scale().scale != 0;
    add(InputForm{is_static ? DType::kF32 : w.dtype(), {}, /*by_rows=*/true});
  }
}

RoundedRows::RoundedRows(Context& ctx, int64_t rows, int64_t k, const InputForms& forms) : rows_(rows), k_(k), forms_(forms) {
  for (size_t f = 0; f < forms.list().size(); ++f)
    steps_[f] = static_cast<uint32_t*>(ctx.arena.bytes(static_cast<size_t>(rows * num_steps(k, forms.list()[f].type)) * sizeof(uint32_t)));
}

const uint32_t* RoundedRows::steps(const InputForm& form) const {
  const auto forms = forms_.list();
  const auto it = std::find(forms.begin(), forms.end(), form);
  WEIR_CHECK(it != forms.end(), "input of ", name(form.type), " with scale ", form.scale.scale, " was not asked for");
  return steps_[static_cast<size_t>(it - forms.begin())];
}

RoundedRows round_rows_cpu(const LinearKernels& kernels, Context& ctx, const Tensor& x, const InputForms& forms) {
  const RoundedRows out(ctx, x.dim(0), x.dim(1), forms);
  const Groups groups(x.dim(0));
  ctx.pool.parallel_for(groups.count, min_groups(x.dim(1)), [&](int64_t begin, int64_t end, int) {
    for (int64_t g = begin; g < end; ++g)
      round_group(kernels, x.data<float>() + groups.begin(g) * x.row_stride(), x.row_stride(), groups, g, out);
  });
  return out;
}

RoundedRows round_rows(Context& ctx, const Tensor& x, const InputForms& forms) {
  check_input(x, "round_rows");
  return round_rows_cpu(cpu::linear_kernels(), ctx, x, forms);
}

RoundedRows rms_norm_rounded(Context& ctx, const Tensor& x, const Tensor& w, float eps, const InputForms& forms) {
  const Span span(ctx.profiler, "norm");
  check_input(x, "rms_norm_rounded");
  const int64_t k = x.dim(1);
  WEIR_CHECK(w.dtype() == DType::kF32 && w.shape() == Shape{k}, "rms_norm_rounded w ", w.shape().str(), " for ", x.shape().str());
  const RoundedRows out(ctx, x.dim(0), k, forms);
  const Arena::Scope scope(ctx.arena);
  const Tensor normed = ctx.arena.empty({ctx.pool.size(), kGroupRows, k});  // a group of each thread, in its own cache
  const auto& norm = cpu::elementwise_kernels(cpu::active_isa()).rms_norm;
  const LinearKernels& kernels = cpu::linear_kernels();
  const Groups groups(x.dim(0));
  ctx.pool.parallel_for(groups.count, min_groups(k), [&](int64_t begin, int64_t end, int thread) {
    float* rows = normed.data<float>() + thread * kGroupRows * k;
    for (int64_t g = begin; g < end; ++g) {
      for (int r = 0; r < groups.size(g); ++r)
        norm(x.data<float>() + (groups.begin(g) + r) * x.row_stride(), w.data<float>(), rows + r * k, k, eps);
      round_group(kernels, rows, k, groups, g, out);
    }
  });
  return out;
}

}  // namespace weir::ops
