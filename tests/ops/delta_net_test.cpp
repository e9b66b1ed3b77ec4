#include "weir/ops/delta_net.h"

#include <gtest/gtest.h>

#include <cmath>

#include "elementwise_support.h"
#include "weir/kernels/cpu/isa.h"

namespace weir::ops {
namespace {

const std::vector<int32_t> kLengths{300, 129, 65, 17};

struct Inputs {
  Inputs(const DeltaShape& shape, int64_t kernel, const std::vector<int32_t>& lengths, uint32_t seed)
      : net{shape,
            random_normal({kernel, shape.channels()}, seed + 100),
            random_normal({shape.v_heads}, seed + 200),
            random_normal({shape.v_heads}, seed + 300),
            random_normal({shape.v_dim}, seed + 400),
            1e-6f},
        projection(random_sequences(lengths, {shape.channels() + shape.values() + 2 * shape.v_heads}, seed)) {
    for (int64_t h = 0; h < shape.v_heads; ++h) net.a_log.data<float>()[h] -= 2;  // decays that reach over a block
  }

  // Sequence 1 begins as sequence 0 does.
  void share(int32_t tokens) {
    const Tensor& first = projection[0];
    std::memcpy(projection[1].data<float>(), first.data<float>(), static_cast<size_t>(tokens * first.dim(1)) * sizeof(float));
  }

  DeltaNet net;
  std::vector<Tensor> projection;
};

// The slots of both kinds.
struct Pools {
  Pools(int64_t slots, const DeltaNet& net, DType state)
      : conv(make_conv_pool(slots, net.shape.channels(), net.conv.dim(0))), delta(make_delta_pool(slots, net.shape, state)) {}
  Pools(Tensor conv_, Tensor delta_) : conv(std::move(conv_)), delta(std::move(delta_)) {}
  Pools copy() const { return {copy_of(conv), copy_of(delta)}; }
  Tensor conv, delta;
};

std::vector<Tensor> play(const std::vector<Pieces>& steps, const Inputs& in, Pools& pools, int threads) {
  ThreadPool team(threads, /*pin=*/false);
  Arena arena(size_t{64} << 20);
  Context ctx{team, arena};
  std::vector<int32_t> lengths;
  for (const Tensor& x : in.projection) lengths.push_back(static_cast<int32_t>(x.dim(0)));
  std::vector<Tensor> out = random_sequences(lengths, {in.net.shape.values()}, 999);
  for (const Pieces& pieces : steps) {
    arena.reset();
    scatter(delta_net(ctx, gather(in.projection, pieces), in.net, pools.conv, pools.delta, rows_of(pieces)), pieces, out);
  }
  return out;
}

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// silu of the convolution, [length, channels].
std::vector<double> convolved(const Inputs& in, size_t seq) {
  const Tensor &x = in.projection[seq], &w = in.net.conv;
  const int64_t channels = in.net.shape.channels(), kernel = w.dim(0);
  std::vector<double> out;
  for (int64_t t = 0; t < x.dim(0); ++t)
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0;
      for (int64_t j = std::max<int64_t>(0, kernel - 1 - t); j < kernel; ++j)
        sum += static_cast<double>(w.data<float>()[j * channels + c]) * x.data<float>()[(t - kernel + 1 + j) * x.dim(1) + c];
      out.push_back(sum * sigmoid(sum));
    }
  return out;
}

// The formulas of the header, token by token, in double.
std::vector<double> formulas(const Inputs& in, size_t seq, std::vector<double>* state_out = nullptr) {
  const DeltaShape& s = in.net.shape;
  const Tensor& x = in.projection[seq];
  const int64_t length = x.dim(0);
  const std::vector<double> qkv = convolved(in, seq);
  std::vector<double> out(static_cast<size_t>(length * s.values())), states;
  for (int64_t h = 0; h < s.v_heads; ++h) {
    std::vector<double> state(static_cast<size_t>(s.k_dim * s.v_dim), 0.0), q(static_cast<size_t>(s.k_dim)), k(q.size());
    for (int64_t t = 0; t < length; ++t) {
      const double* row = qkv.data() + t * s.channels();
      const float *z = x.data<float>() + t * x.dim(1) + s.channels() + h * s.v_dim,
                  *gates = x.data<float>() + t * x.dim(1) + s.channels() + s.values();
      const int64_t kh = h / (s.v_heads / s.k_heads);
      double qq = 1e-6, kk = 1e-6;
      for (int64_t c = 0; c < s.k_dim; ++c) {
        q[c] = row[kh * s.k_dim + c], k[c] = row[(s.k_heads + kh) * s.k_dim + c];
        qq += q[c] * q[c], kk += k[c] * k[c];
      }
      for (int64_t c = 0; c < s.k_dim; ++c) q[c] /= std::sqrt(qq) * std::sqrt(static_cast<double>(s.k_dim)), k[c] /= std::sqrt(kk);
      const double* v = row + 2 * s.k_heads * s.k_dim + h * s.v_dim;
      const double beta = sigmoid(gates[h]), a = gates[s.v_heads + h] + in.net.dt_bias.data<float>()[h];
      const double decay = std::exp(-std::exp(static_cast<double>(in.net.a_log.data<float>()[h])) * std::log1p(std::exp(a)));
      double* const o = out.data() + t * s.values() + h * s.v_dim;
      for (double& element : state) element *= decay;
      double oo = 0;
      for (int64_t d = 0; d < s.v_dim; ++d) {
        double read = 0;
        for (int64_t c = 0; c < s.k_dim; ++c) read += state[c * s.v_dim + d] * k[c];
        for (int64_t c = 0; c < s.k_dim; ++c) state[c * s.v_dim + d] += k[c] * beta * (v[d] - read);
        for (int64_t c = 0; c < s.k_dim; ++c) o[d] += state[c * s.v_dim + d] * q[c];
        oo += o[d] * o[d];
      }
      for (int64_t d = 0; d < s.v_dim; ++d)
        o[d] *= in.net.norm.data<float>()[d] * z[d] * sigmoid(z[d]) / std::sqrt(oo / static_cast<double>(s.v_dim) + in.net.eps);
    }
    states.insert(states.end(), state.begin(), state.end());
  }
  if (state_out != nullptr) *state_out = states;
  return out;
}

struct Case {
  DeltaShape shape;
  DType state;
  int64_t kernel = 4;
};

class DeltaNetOp : public testing::TestWithParam<Case> {
 protected:
  const DeltaShape shape = GetParam().shape;
  Inputs inputs(const std::vector<int32_t>& lengths, uint32_t seed) const { return {shape, GetParam().kernel, lengths, seed}; }
  Pools new_pools(int64_t slots, const Inputs& in) const { return {slots, in.net, GetParam().state}; }
};

TEST_P(DeltaNetOp, IsTheFormulas) {
  const Inputs in = inputs(kLengths, 1);
  Pools pool = new_pools(8, in);
  Pieces pieces;
  for (size_t s = 0; s < kLengths.size(); ++s)
    pieces.push_back(Piece{static_cast<int32_t>(s), 0, kLengths[s], -1, static_cast<int32_t>(2 * s)});
  const std::vector<Tensor> out = play({pieces}, in, pool, 2);
  for (size_t s = 0; s < kLengths.size(); ++s) {
    std::vector<double> want_state;
    const std::vector<double> want = formulas(in, s, &want_state);
    // Outputs are up to 20, elements of a state up to 5. AMX keeps 16 bits of a float.
    const double tolerance = GetParam().state == DType::kBF16 ? 5e-2 : cpu::active_isa() == cpu::Isa::kAmx ? 1e-4 : 2e-5;
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(out[s].data<float>()[i], want[i], tolerance) << "sequence " << s << " element " << i;
    const Tensor state = delta_state(pool.delta, shape, static_cast<int64_t>(2 * s), kLengths[s]);
    for (size_t i = 0; i < want_state.size(); ++i)
      ASSERT_NEAR(state.data<float>()[i], want_state[i], tolerance) << "state " << s << " element " << i;
  }
}

TEST_P(DeltaNetOp, GivesTheSameBitsHoweverSequencesAreCut) {
  const Inputs in = inputs(kLengths, 2);
  Pools pool = new_pools(8, in);
  const std::vector<Tensor> want = play(one_by_one(kLengths), in, pool, 1);
  for (uint32_t seed = 0; seed < 8; ++seed) {
    std::vector<int32_t> last;
    const std::vector<Pieces> steps = random_cuts(kLengths, seed, last);
    Pools cut_pool = new_pools(8, in);
    const std::vector<Tensor> got = play(steps, in, cut_pool, 1 + static_cast<int>(seed % 5));
    for (size_t s = 0; s < kLengths.size(); ++s) {
      expect_same_bits(got[s], want[s], concat("cut ", seed, " sequence ", s));
      expect_same_bits(delta_state(cut_pool.delta, shape, last[s], kLengths[s]),
                       delta_state(pool.delta, shape, static_cast<int64_t>(2 * s), kLengths[s]),
                       concat("state of cut ", seed, " sequence ", s));
    }
  }
}

TEST_P(DeltaNetOp, ContinuesFromASnapshotAtAnyPosition) {
  const std::vector<int32_t> lengths{260};
  const Inputs in = inputs(lengths, 3);
  Pools pool = new_pools(12, in);
  const std::vector<Tensor> want = play(one_by_one(lengths), in, pool, 1);
  const std::vector<Snapshot> snapshots{{31, 2}, {32, 3}, {64, 4}, {65, 5}, {128, 6}, {150, 7}, {192, 8}, {230, 9}};
  for (const bool in_place : {true, false}) {
    Pools snapshot_pool = new_pools(12, in);
    const int32_t end_slot = in_place ? 0 : 1;
    play({{Piece{0, 0, 30, -1, 0}}, {Piece{0, 30, 200, 0, end_slot, snapshots}}}, in, snapshot_pool, 2);
    for (const Snapshot& s : snapshots) {
      Pools copy = snapshot_pool.copy();
      const std::vector<Tensor> got = play({{Piece{0, s.position, 260 - s.position, s.slot, 10}}}, in, copy, 2);
      expect_same_bits(got[0].rows(s.position, 260), want[0].rows(s.position, 260), concat("from position ", s.position));
      expect_same_bits(delta_state(copy.delta, shape, 10, 260), delta_state(pool.delta, shape, 0, 260), concat("state from ", s.position));
    }
  }
}

TEST_P(DeltaNetOp, LeavesAReadSlotOfTwoRowsUntouched) {
  for (const int32_t prefix : {64, 40}) {
    const std::vector<int32_t> lengths{150, 150};
    Inputs in = inputs(lengths, 4);
    in.share(prefix);
    Pools pool = new_pools(8, in);
    const std::vector<Tensor> want = play(one_by_one(lengths), in, pool, 1);
    Pools shared = new_pools(8, in);
    play({{Piece{0, 0, prefix, -1, 7}}}, in, shared, 1);
    const Pools before = shared.copy();
    const std::vector<Tensor> got = play(
        {{Piece{0, prefix, 3, 7, 0}, Piece{1, prefix, 150 - prefix, 7, 2}}, {Piece{0, prefix + 3, 147 - prefix, 0, 1}}}, in, shared, 2);
    for (const auto pool_of : {&Pools::conv, &Pools::delta})
      EXPECT_EQ(std::memcmp((shared.*pool_of).rows(7, 8).raw(), (before.*pool_of).rows(7, 8).raw(),
                            static_cast<size_t>((before.*pool_of).rows(7, 8).nbytes())),
                0);
    for (size_t s = 0; s < 2; ++s) expect_same_bits(got[s].rows(prefix, 150), want[s].rows(prefix, 150), concat("sequence ", s));
  }
}

// Sequence 1 goes its own way from `position` on; sequence 0 then continues from its slot as if the surplus had never been computed.
TEST_P(DeltaNetOp, ReadsASlotAtAnEarlierPositionAsIfItHadSeenNoMore) {
  const std::vector<int32_t> lengths{150, 150};
  const Inputs whole = inputs(lengths, 5);
  Pools pool = new_pools(8, whole);
  const std::vector<Tensor> want = play(one_by_one(lengths), whole, pool, 1);
  for (const int32_t seen : {5, 64, 66, 79, 80, 128, 135, 144}) {
    for (int32_t back = 0; back <= kConvHistory; ++back) {
      const int32_t position = seen - back;
      if (position < 1 || position < (seen - 1) / kDeltaBlock * kDeltaBlock) continue;  // before the block of its state
      Inputs in = inputs(lengths, 5);
      in.share(position);
      for (const int32_t to : {6, 7}) {  // 6: in place
        for (const int32_t count : {1, 150 - position}) {
          Pools slots = new_pools(8, in);
          play({{Piece{1, 0, seen, -1, 6}}}, in, slots, 2);
          std::vector<Pieces> steps = {{Piece{0, position, count, 6, to}}};
          if (position + count < 150) steps.push_back({Piece{0, position + count, 150 - position - count, to, to}});
          const std::vector<Tensor> got = play(steps, in, slots, 2);
          const std::string what = concat("seen ", seen, ", read at ", position, " into ", to, ", first ", count);
          expect_same_bits(got[0].rows(position, 150), want[0].rows(position, 150), what);
          expect_same_bits(delta_state(slots.delta, shape, to, 150), delta_state(pool.delta, shape, 0, 150), what);
        }
      }
    }
  }
}

TEST_P(DeltaNetOp, TakesASnapshotThatIsReadableAPageEarlierToo) {
  const std::vector<int32_t> lengths{150};
  const Inputs in = inputs(lengths, 6);
  Pools pool = new_pools(8, in);
  const std::vector<Tensor> want = play(one_by_one(lengths), in, pool, 1);
  for (const int32_t position : {32, 48, 64, 80, 128, 144}) {
    for (const int32_t earlier : {0, 16}) {
      Pools slots = new_pools(8, in);
      play({{Piece{0, 0, 10, -1, 0}}, {Piece{0, 10, 140, 0, 0, {{position, 3}}}}}, in, slots, 2);
      const int32_t from = position - earlier;
      const std::vector<Tensor> got = play({{Piece{0, from, 150 - from, 3, 4}}}, in, slots, 1);
      expect_same_bits(got[0].rows(from, 150), want[0].rows(from, 150), concat("snapshot at ", position, " read at ", from));
    }
  }
}

TEST(DeltaNetDeath, ASlotIsReadOnlyWhereItsStateReaches) {
  const Inputs in({1, 1, 16, 16}, 4, {150}, 7);
  Pools pool(2, in.net, DType::kF32);
  play({{Piece{0, 0, 100, -1, 0}}}, in, pool, 1);
  EXPECT_DEATH(play({{Piece{0, 101, 1, 0, 0}}}, in, pool, 1), "row 0 at position 101 reads slot 0");
  EXPECT_DEATH(play({{Piece{0, 75, 1, 0, 0}}}, in, pool, 1), "after 100 tokens") << "the convolution's inputs are gone";
  play({{Piece{0, 100, 30, 0, 0}}}, in, pool, 1);
  EXPECT_DEATH(play({{Piece{0, 127, 1, 0, 0}}}, in, pool, 1), "a state of block 128") << "its state is folded";
}

INSTANTIATE_TEST_SUITE_P(Shapes, DeltaNetOp,
                         testing::Values(Case{{1, 2, 128, 128}, DType::kF32}, Case{{2, 4, 32, 48}, DType::kF32},
                                         Case{{2, 2, 20, 7}, DType::kF32, 2}, Case{{1, 3, 24, 40}, DType::kF32},
                                         Case{{1, 1, 33, 130}, DType::kF32, 1}, Case{{2, 4, 32, 48}, DType::kBF16},
                                         Case{{1, 1, 33, 129}, DType::kBF16}, Case{{1, 2, 128, 128}, DType::kBF16},
                                         Case{{1, 3, 32, 192}, DType::kF32}, Case{{2, 2, 96, 64}, DType::kBF16}),
                         [](const auto& info) {
                           const DeltaShape& s = info.param.shape;
                           return concat("K", s.k_heads, "x", s.k_dim, "V", s.v_heads, "x", s.v_dim, name(info.param.state));
                         });

TEST(DeltaNetStep, WithoutTokensDoesNothing) {
  const Inputs in({1, 1, 16, 16}, 4, {1}, 8);
  ThreadPool team(2, false);
  Arena arena(size_t{1} << 20);
  Context ctx{team, arena};
  Pools pools(2, in.net, DType::kF32);
  EXPECT_EQ(delta_net(ctx, in.projection[0].rows(0, 0), in.net, pools.conv, pools.delta, rows_of({})).shape(), (Shape{0, 16}));
}

TEST(DeltaGatesOp, IsTheFormula) {
  ThreadPool team(2, false);
  Arena arena(size_t{4} << 20);
  Context ctx{team, arena};
  const int64_t heads = 19, tokens = 37;
  const Tensor wide = random_normal({tokens, 2 * heads + 5}, 5, 4.0f), a_log = random_normal({heads}, 6),
               dt_bias = random_normal({heads}, 7);
  wide.data<float>()[heads] = 80.0f, wide.data<float>()[heads + 1] = -80.0f;
  const DeltaGates gates = delta_gates(ctx, wide.columns(0, 2 * heads), a_log, dt_bias);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t h = 0; h < heads; ++h) {
      const double b = wide.data<float>()[t * wide.dim(1) + h], a = wide.data<float>()[t * wide.dim(1) + heads + h];
      const double x = a + dt_bias.data<float>()[h];
      const double g = -std::exp(static_cast<double>(a_log.data<float>()[h])) * (x > 30 ? x : std::log1p(std::exp(x)));
      EXPECT_NEAR(gates.beta.data<float>()[t * heads + h], 1.0 / (1.0 + std::exp(-b)), 1e-6);
      EXPECT_NEAR(gates.g.data<float>()[t * heads + h], g, 1e-6 + 2e-6 * std::fabs(g));
    }
}

}  // namespace
}  // namespace weir::ops
