#include "weir/ops/elementwise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "weir/kernels/cpu/elementwise.h"
#include "weir/kernels/cpu/isa.h"
#include "weir/kernels/cpu/route.h"
#include "weir/ops/not_built.h"

namespace weir::ops {
namespace {

// Rows per thread that outweigh waking one (a fork-join costs a few µs): about 16 K elements.
int64_t min_rows(int64_t elements_per_row) { return std::max<int64_t>(1, 16'384 / std::max<int64_t>(1, elements_per_row)); }

void check_f32(const Tensor& x, int rank, const char* what) {
  WEIR_CHECK(x.dtype() == DType::kF32 && x.rank() == rank, what, ": ", name(x.dtype()), " ", x.shape().str());
}

void check_vector(const Tensor& x, DType type, int64_t size, const char* what) {
  WEIR_CHECK(x.dtype() == type && x.rank() == 1 && x.dim(0) == size, what, ": ", name(x.dtype()), " ", x.shape().str(), ", wanted ", size);
}

const cpu::ElementwiseKernels& kernels() { return cpu::elementwise_kernels(cpu::active_isa()); }

}  // namespace

Tensor rms_norm(Context& ctx, const Tensor& x, const Tensor& w, float eps) {
  const Span span(ctx.profiler, "norm");
  check_f32(x, 2, "rms_norm x");
  check_vector(w, DType::kF32, x.dim(1), "rms_norm w");
  if (x.device() != DeviceKind::kCpu) not_built("rms_norm", x.device());
  const int64_t dim = x.dim(1);
  Tensor y = ctx.arena.empty({x.dim(0), dim});
  const auto& k = kernels();
  ctx.pool.parallel_for(x.dim(0), min_rows(dim), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t)
      k.rms_norm(x.data<float>() + t * x.row_stride(), w.data<float>(), y.data<float>() + t * dim, dim, eps);
  });
  return y;
}

Tensor norm_rope(Context& ctx, const Tensor& x, int64_t heads, int64_t dim, int64_t head_stride, const Tensor& norm_w, float eps,
                 const RopeTable& rope) {
  const Span span(ctx.profiler, "norm and rotate");
  check_f32(x, 2, "norm_rope x");
  check_vector(norm_w, DType::kF32, dim, "norm_rope w");
  check_f32(rope.cos, 2, "norm_rope cos");
  check_f32(rope.sin, 2, "norm_rope sin");
  const int64_t tokens = x.dim(0), half = rope.cos.dim(1);
  WEIR_CHECK(heads >= 1 && head_stride >= 0 && (heads - 1) * head_stride + dim <= x.dim(1), heads, " heads ", head_stride, " apart of ",
             dim, " in ", x.shape().str());
  WEIR_CHECK(rope.cos.dim(0) == tokens && rope.sin.shape() == rope.cos.shape() && 2 * half <= dim, "rope table ", rope.cos.shape().str(),
             " for ", tokens, " tokens, heads of ", dim);
  if (x.device() != DeviceKind::kCpu) not_built("norm_rope", x.device());
  Tensor y = ctx.arena.empty({tokens, heads, dim});
  const auto& k = kernels();
  ctx.pool.parallel_for(tokens * heads, min_rows(dim), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t t = i / heads, h = i % heads;
      k.norm_rope(x.data<float>() + t * x.row_stride() + h * head_stride, norm_w.data<float>(),
                  rope.cos.data<float>() + t * rope.cos.row_stride(), rope.sin.data<float>() + t * rope.sin.row_stride(),
                  y.data<float>() + i * dim, dim, half, eps);
    }
  });
  return y;
}

RopeTable rope_table(Context& ctx, const Tensor& positions, const Tensor& inv_freq, const Tensor& axis_of) {
  const Span span(ctx.profiler, "rotary table");
  WEIR_CHECK(positions.dtype() == DType::kI32 && positions.rank() == 2 && positions.dim(0) == 3, "rope positions ",
             positions.shape().str());
  const int64_t tokens = positions.dim(1), half = inv_freq.dim(0);
  check_vector(inv_freq, DType::kF32, half, "rope inv_freq");
  check_vector(axis_of, DType::kI32, half, "rope axis_of");
  for (int64_t i = 0; i < half; ++i)
    WEIR_CHECK(axis_of.data<int32_t>()[i] >= 0 && axis_of.data<int32_t>()[i] < 3, "rope axis ", axis_of.data<int32_t>()[i]);
  if (positions.device() != DeviceKind::kCpu) not_built("rope_table", positions.device());
  RopeTable table{ctx.arena.empty({tokens, half}), ctx.arena.empty({tokens, half})};
  ctx.pool.parallel_for(tokens, min_rows(16 * half), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t i = 0; i < half; ++i) {
        const int32_t position = positions.data<int32_t>()[axis_of.data<int32_t>()[i] * positions.row_stride() + t];
        const float angle = static_cast<float>(position) * inv_freq.data<float>()[i];  // rounded to F32, as the model was trained
        table.cos.data<float>()[t * half + i] = std::cos(angle);
        table.sin.data<float>()[t * half + i] = std::sin(angle);
      }
  });
  return table;
}

void gate_heads(Context& ctx, Tensor& o, const Tensor& gate, int64_t heads, int64_t dim, int64_t head_stride) {
  const Span span(ctx.profiler, "gate heads");
  check_f32(o, 2, "gate_heads o");
  check_f32(gate, 2, "gate_heads gate");
  WEIR_CHECK(o.dense() && o.dim(1) == heads * dim && gate.dim(0) == o.dim(0), "o ", o.shape().str(), ", gate ", gate.shape().str());
  WEIR_CHECK(heads >= 1 && head_stride >= 0 && (heads - 1) * head_stride + dim <= gate.dim(1), heads, " heads ", head_stride, " apart of ",
             dim, " in ", gate.shape().str());
  if (o.device() != DeviceKind::kCpu) not_built("gate_heads", o.device());
  const auto& k = kernels();
  ctx.pool.parallel_for(o.dim(0) * heads, min_rows(4 * dim), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      k.gate(o.data<float>() + i * dim, gate.data<float>() + i / heads * gate.row_stride() + i % heads * head_stride, dim);
  });
}

Tensor silu_mul(Context& ctx, const Tensor& x) {
  check_f32(x, 2, "silu_mul x");
  WEIR_CHECK(x.dim(1) % 2 == 0, "silu_mul x ", x.shape().str());
  if (x.device() != DeviceKind::kCpu) not_built("silu_mul", x.device());
  const int64_t inner = x.dim(1) / 2;
  Tensor y = ctx.arena.empty({x.dim(0), inner});
  const auto& k = kernels();
  ctx.pool.parallel_for(x.dim(0), min_rows(4 * inner), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* gate = x.data<float>() + t * x.row_stride();
      k.silu_mul(gate, gate + inner, y.data<float>() + t * inner, inner);
    }
  });
  return y;
}

Tensor embedding(Context& ctx, const Tensor& table, const Tensor& ids) {
  const Span span(ctx.profiler, "embedding");
  WEIR_CHECK(table.rank() == 2 && (table.dtype() == DType::kF32 || table.dtype() == DType::kBF16), "embedding table ", name(table.dtype()),
             " ", table.shape().str());
  const int64_t tokens = ids.dim(0), dim = table.dim(1);
  check_vector(ids, DType::kI32, tokens, "embedding ids");
  for (int64_t t = 0; t < tokens; ++t) {
    const int32_t id = ids.data<int32_t>()[t];
    WEIR_CHECK(id >= 0 && id < table.dim(0), "token id ", id, " of a vocabulary of ", table.dim(0));
  }
  if (table.device() != DeviceKind::kCpu) not_built("embedding", table.device());
  Tensor y = ctx.arena.empty({tokens, dim});
  const auto& k = kernels();
  ctx.pool.parallel_for(tokens, min_rows(dim), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t offset = ids.data<int32_t>()[t] * table.row_stride();
      if (table.dtype() == DType::kBF16) {
        k.widen_bf16(table.data<uint16_t>() + offset, y.data<float>() + t * dim, dim);
      } else {
        std::memcpy(y.data<float>() + t * dim, table.data<float>() + offset, static_cast<size_t>(dim) * sizeof(float));
      }
    }
  });
  return y;
}

Tensor gather_rows(Context& ctx, const Tensor& x, const Tensor& index) {
  check_f32(x, 2, "gather_rows x");
  const int64_t rows = index.dim(0), dim = x.dim(1);
  check_vector(index, DType::kI32, rows, "gather_rows index");
  if (x.device() != DeviceKind::kCpu) not_built("gather_rows", x.device());
  Tensor y = ctx.arena.empty({rows, dim});
  for (int64_t i = 0; i < rows; ++i) {
    const int32_t t = index.data<int32_t>()[i];
    WEIR_CHECK(t >= 0 && t < x.dim(0), "row ", t, " of ", x.shape().str());
    std::memcpy(y.data<float>() + i * dim, x.data<float>() + t * x.row_stride(), static_cast<size_t>(dim) * sizeof(float));
  }
  return y;
}

Routing route(Context& ctx, const Tensor& logits, int64_t num_experts, int64_t top_k, bool shared_gate) {
  const Span span(ctx.profiler, "choose experts");
  check_f32(logits, 2, "route logits");
  WEIR_CHECK(1 <= top_k && top_k <= num_experts && logits.dim(1) == num_experts + (shared_gate ? 1 : 0), "logits ", logits.shape().str(),
             ", ", top_k, " of ", num_experts, " experts", shared_gate ? " and a shared one" : "");
  if (logits.device() != DeviceKind::kCpu) not_built("route", logits.device());
  const int64_t tokens = logits.dim(0), chosen = top_k + (shared_gate ? 1 : 0);
  Routing routing{ctx.arena.empty({tokens, chosen}, DType::kI32), ctx.arena.empty({tokens, chosen})};
  ctx.pool.parallel_for(tokens, min_rows(4 * num_experts), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* row = logits.data<float>() + t * logits.row_stride();
      int32_t* ids = routing.ids.data<int32_t>() + t * chosen;
      float* weights = routing.weights.data<float>() + t * chosen;
      cpu::route(row, num_experts, top_k, ids, weights);
      if (shared_gate) {
        ids[top_k] = static_cast<int32_t>(num_experts);
        weights[top_k] = 1.0f / (1.0f + std::exp(-row[num_experts]));
      }
    }
  });
  return routing;
}

}  // namespace weir::ops
