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

}  // namespace

Tensor linear(Context& ctx, const Tensor& x, const PackedMatrix& w, const char* what) {
  const Span span(ctx.profiler, what);
  check_product(x, w);
  Tensor y = ctx.arena.empty({x.dim(0), w.n()});
  switch (x.device()) {
    case DeviceKind::kCpu: linear_cpu(cpu::linear_kernels(), ctx, x, w, y, /*add=*/false); return y;
    case DeviceKind::kCuda:
    case DeviceKind::kNpu: break;
  }
  fail_not_built("linear", x.device());
}

Tensor linear(Context& ctx, const Tensor& x, std::span<const PackedMatrix> stacked) {
  if (stacked.size() == 1) return linear(ctx, x, stacked.front());
  const Span span(ctx.profiler, kLinear);
  int64_t n = 0;
  for (const PackedMatrix& w : stacked) check_product(x, w), n += w.n();
  Tensor y = ctx.arena.empty({x.dim(0), n});
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

void experts_add(Context& ctx, const Tensor& x, const Routing& routing, const ExpertWeights& experts, Tensor& y) {
  const Span span(ctx.profiler, "experts");
  WEIR_CHECK(x.rank() == 2 && x.dtype() == DType::kF32 && y.dtype() == DType::kF32 && y.shape() == x.shape(), "x ", x.shape().str(), ", y ",
             y.shape().str());
  WEIR_CHECK(routing.ids.rank() == 2 && routing.ids.dtype() == DType::kI32 && routing.ids.dim(0) == x.dim(0), "ids ",
             routing.ids.shape().str(), " for ", x.dim(0), " tokens");
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

}  // namespace weir::ops
