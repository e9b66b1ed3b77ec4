// Inputs of products, rounded once to what pack_panel makes of them: of one row after the other, or in the panels that a product
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

// Rows of panel p, `stride` apart, in every form.
void round_panel(const LinearKernels& kernels, const float* rows, int64_t stride, const Panels& panels, int64_t p, const RoundedRows& out) {
  const auto forms = out.forms().list();
  for (size_t f = 0; f < forms.size(); ++f) {
    const auto& pack = product_kernels(kernels, forms[f].type).pack_panel;
    const int64_t steps = panel_steps(kernels, out.k(), forms[f].type);
    uint32_t* to = out.steps(f) + panels.begin(p) * steps;
    if (!forms[f].by_rows)
      pack(rows, stride, panels.size(p), panels.room(p), out.k(), forms[f].scale, to);
    else
      for (int r = 0; r < panels.size(p); ++r) pack(rows + r * stride, stride, 1, 1, out.k(), forms[f].scale, to + r * steps);
  }
}

// Panels per thread that outweigh waking one.
int64_t min_panels(const LinearKernels& kernels, int64_t k) {
  return std::max<int64_t>(1, 16'384 / std::max<int64_t>(1, kernels.panel_rows * k));
}

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

RoundedRows::RoundedRows(const LinearKernels& kernels, Context& ctx, int64_t rows, int64_t k, const InputForms& forms)
    : rows_(rows), k_(k), forms_(forms) {
  for (size_t f = 0; f < forms.list().size(); ++f) {
    const InputForm& form = forms.list()[f];
    const int64_t room = form.by_rows ? rows : kernels.panels(rows).total_room();
    steps_[f] = static_cast<uint32_t*>(ctx.arena.bytes(static_cast<size_t>(room * panel_steps(kernels, k, form.type)) * sizeof(uint32_t)));
  }
}

const uint32_t* RoundedRows::steps(const InputForm& form) const {
  const auto forms = forms_.list();
  const auto it = std::find(forms.begin(), forms.end(), form);
  WEIR_CHECK(it != forms.end(), "input of ", name(form.type), " with scale ", form.scale.scale, " was not asked for");
  return steps_[static_cast<size_t>(it - forms.begin())];
}

RoundedRows round_rows_cpu(const LinearKernels& kernels, Context& ctx, const Tensor& x, const InputForms& forms) {
  const RoundedRows out(kernels, ctx, x.dim(0), x.dim(1), forms);
  const Panels panels = kernels.panels(x.dim(0));
  ctx.pool.parallel_for(panels.count, min_panels(kernels, x.dim(1)), [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p)
      round_panel(kernels, x.data<float>() + panels.begin(p) * x.row_stride(), x.row_stride(), panels, p, out);
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
  const LinearKernels& kernels = cpu::linear_kernels();
  const RoundedRows out(kernels, ctx, x.dim(0), k, forms);
  const Arena::Scope scope(ctx.arena);
  const Tensor normed = ctx.arena.empty({ctx.pool.size(), kernels.panel_rows, k});  // a panel of each thread, in its own cache
  const auto& norm = cpu::elementwise_kernels(cpu::active_isa()).rms_norm;
  const Panels panels = kernels.panels(x.dim(0));
  ctx.pool.parallel_for(panels.count, min_panels(kernels, k), [&](int64_t begin, int64_t end, int thread) {
    float* rows = normed.data<float>() + thread * kernels.panel_rows * k;
    for (int64_t p = begin; p < end; ++p) {
      for (int r = 0; r < panels.size(p); ++r)
        norm(x.data<float>() + (panels.begin(p) + r) * x.row_stride(), w.data<float>(), rows + r * k, k, eps);
      round_panel(kernels, rows, k, panels, p, out);
    }
  });
  return out;
}

}  // namespace weir::ops
