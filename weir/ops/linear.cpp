#include "weir/ops/linear.h"

#include "weir/ops/linear_cpu.h"

namespace weir::ops {
namespace {

[[noreturn]] void fail_not_built(const char* op, DeviceKind device) {
  fail(ErrorCode::kInternal, "not built: ", op, " on device kind ", static_cast<int>(device));
}

void check_product(const Tensor& x, const PackedMatrix& w) {
  WEIR_CHECK(x.rank() == 2 && x.dtype() == DType::kF32 && x.dim(1) == w.k(), "x ", x.shape().str(), " of ", name(x.dtype()), ", weight [",
             w.n(), ", ", w.k(), "]");
}
void check_product(const RoundedRows& x, const PackedMatrix& w) {
  WEIR_CHECK(x.k() == w.k(), "x [", x.rows(), ", ", x.k(), "], weight [", w.n(), ", ", w.k(), "]");
}

}  // namespace

namespace {

int64_t rows_of(const Tensor& x) { return x.dim(0); }
int64_t rows_of(const RoundedRows& x) { return x.rows(); }

template <class Input>
Tensor product(Context& ctx, const Input& x, const PackedMatrix& w, const char* what) {
  const Span span(ctx.profiler, what);
  check_product(x, w);
  Tensor y = ctx.arena.empty({rows_of(x), w.n()});
  switch (x.device()) {
    case DeviceKind::kCpu: linear_cpu(cpu::linear_kernels(), ctx, x, w, y, /*add=*/false); return y;
    case DeviceKind::kCuda:
    case DeviceKind::kNpu: break;
  }
  fail_not_built("linear", x.device());
}

template <class Input>
Tensor products(Context& ctx, const Input& x, std::span<const PackedMatrix> stacked) {
  if (stacked.size() == 1) return product(ctx, x, stacked.front(), kLinear);
  const Span span(ctx.profiler, kLinear);
  int64_t n = 0;
  for (const PackedMatrix& w : stacked) check_product(x, w), n += w.n();
  Tensor y = ctx.arena.empty({rows_of(x), n});
  switch (x.device()) {
    case DeviceKind::kCpu: {
      int64_t column = 0;
      for (const PackedMatrix& w : stacked) {
        Tensor part = y.columns(column, column + w.n());
        linear_cpu(cpu::linear_kernels(), ctx, x, w, part, /*add=*/false);
        column += w.n();
      }
      return y;
    }
    case DeviceKind::kCuda:
    case DeviceKind::kNpu: break;
  }
  fail_not_built("linear", x.device());
}

}  // namespace

Tensor linear(Context& ctx, const Tensor& x, const PackedMatrix& w, const char* what) { return product(ctx, x, w, what); }
Tensor linear(Context& ctx, const Tensor& x, std::span<const PackedMatrix> stacked) { return products(ctx, x, stacked); }
Tensor linear(Context& ctx, const RoundedRows& x, const PackedMatrix& w, const char* what) { return product(ctx, x, w, what); }
Tensor linear(Context& ctx, const RoundedRows& x, std::span<const PackedMatrix> stacked) { return products(ctx, x, stacked); }

void linear_add(Context& ctx, const Tensor& x, const PackedMatrix& w, Tensor& y) {
  const Span span(ctx.profiler, kLinear);
  check_product(x, w);
  WEIR_CHECK(y.dtype() == DType::kF32 && y.shape() == (Shape{x.dim(0), w.n()}), "y ", y.shape().str(), " for [", x.dim(0), ", ", w.n(),
             "]");
  switch (x.device()) {
    case DeviceKind::kCpu: return linear_cpu(cpu::linear_kernels(), ctx, x, w, y, /*add=*/true);
    case DeviceKind::kCuda:
    case DeviceKind::kNpu: break;
  }
  fail_not_built("linear_add", x.device());
}

void experts_add(Context& ctx, const RoundedRows& x, const Routing& routing, const ExpertWeights& experts, Tensor& y) {
  const Span span(ctx.profiler, "experts");
  WEIR_CHECK(y.dtype() == DType::kF32 && y.shape() == (Shape{x.rows(), x.k()}), "y ", y.shape().str(), " for x [", x.rows(), ", ", x.k(),
             "]");
  WEIR_CHECK(routing.ids.rank() == 2 && routing.ids.dtype() == DType::kI32 && routing.ids.dim(0) == x.rows(), "ids ",
             routing.ids.shape().str(), " for ", x.rows(), " tokens");
  WEIR_CHECK(routing.weights.dtype() == DType::kF32 && routing.weights.shape() == routing.ids.shape(), "weights ",
             routing.weights.shape().str(), ", ids ", routing.ids.shape().str());
  WEIR_CHECK(experts.gate_up.size() == experts.down.size(), experts.gate_up.size(), " gate_up, ", experts.down.size(), " down");
  switch (x.device()) {
    case DeviceKind::kCpu: return experts_add_cpu(cpu::linear_kernels(), ctx, x, routing, experts, y);
    case DeviceKind::kCuda:
    case DeviceKind::kNpu: break;
  }
  fail_not_built("experts_add", x.device());
}

void experts_add(Context& ctx, const Tensor& x, const Routing& routing, const ExpertWeights& experts, Tensor& y) {
  const Arena::Scope scope(ctx.arena);
  InputForms forms;
  forms.add(experts);
  experts_add(ctx, round_rows(ctx, x, forms), routing, experts, y);
}

}  // namespace weir::ops
