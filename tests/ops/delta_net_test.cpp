#include "weir/ops/delta_net.h"

#include <gtest/gtest.h>

#include <cmath>

#include "elementwise_support.h"

namespace weir::ops {
namespace {

const std::vector<int32_t> kLengths{300, 129, 65, 17};

struct Inputs {
  Inputs(const DeltaShape& shape, const std::vector<int32_t>& lengths, uint32_t seed)
      : qkv(random_sequences(lengths, {shape.channels()}, seed)) {
    g = random_sequences(lengths, {shape.v_heads}, seed + 100);
    beta = random_sequences(lengths, {shape.v_heads}, seed + 200);
    for (auto* list : {&g, &beta})
      for (Tensor& x : *list)
        for (int64_t i = 0; i < x.numel(); ++i) {
          float& value = x.data<float>()[i];
          value = list == &g ? -0.2f * std::fabs(value) : 1.0f / (1.0f + std::exp(-value));
        }
  }
  std::vector<Tensor> qkv, g, beta;
};

std::vector<Tensor> empty_outputs(const DeltaShape& shape, const std::vector<int32_t>& lengths) {
  return random_sequences(lengths, {shape.v_heads * shape.v_dim}, 999);
}

std::vector<Tensor> play(const std::vector<Pieces>& steps, const Inputs& in, const DeltaShape& shape, Tensor& pool, int threads) {
  ThreadPool team(threads, /*pin=*/false);
  Arena arena(size_t{64} << 20);
  Context ctx{team, arena};
  std::vector<int32_t> lengths;
  for (const Tensor& x : in.qkv) lengths.push_back(static_cast<int32_t>(x.dim(0)));
  std::vector<Tensor> out = empty_outputs(shape, lengths);
  for (const Pieces& pieces : steps) {
    arena.reset();
    const DeltaGates gates{gather(in.g, pieces), gather(in.beta, pieces)};
    scatter(gated_delta_rule(ctx, gather(in.qkv, pieces), gates, pool, shape, rows_of(pieces)), pieces, out);
  }
  return out;
}

// The recurrence of the header, token by token, in double.
std::vector<double> recurrence(const Inputs& in, size_t seq, const DeltaShape& s, std::vector<double>* state_out = nullptr) {
  const int64_t length = in.qkv[seq].dim(0);
  std::vector<double> out(static_cast<size_t>(length * s.v_heads * s.v_dim)), states;
  for (int64_t h = 0; h < s.v_heads; ++h) {
    std::vector<double> state(static_cast<size_t>(s.k_dim * s.v_dim), 0.0), q(static_cast<size_t>(s.k_dim)), k(q.size());
    for (int64_t t = 0; t < length; ++t) {
      const float* row = in.qkv[seq].data<float>() + t * s.channels();
      const int64_t kh = h / (s.v_heads / s.k_heads);
      double qq = 1e-6, kk = 1e-6;
      for (int64_t c = 0; c < s.k_dim; ++c) {
        q[c] = row[kh * s.k_dim + c], k[c] = row[(s.k_heads + kh) * s.k_dim + c];
        qq += q[c] * q[c], kk += k[c] * k[c];
      }
      for (int64_t c = 0; c < s.k_dim; ++c) q[c] /= std::sqrt(qq) * std::sqrt(static_cast<double>(s.k_dim)), k[c] /= std::sqrt(kk);
      const float* v = row + 2 * s.k_heads * s.k_dim + h * s.v_dim;
      const double decay = std::exp(static_cast<double>(in.g[seq].data<float>()[t * s.v_heads + h]));
      const double beta = in.beta[seq].data<float>()[t * s.v_heads + h];
      for (double& x : state) x *= decay;
      for (int64_t d = 0; d < s.v_dim; ++d) {
        double read = 0, o = 0;
        for (int64_t c = 0; c < s.k_dim; ++c) read += state[c * s.v_dim + d] * k[c];
        for (int64_t c = 0; c < s.k_dim; ++c) state[c * s.v_dim + d] += k[c] * beta * (v[d] - read);
        for (int64_t c = 0; c < s.k_dim; ++c) o += state[c * s.v_dim + d] * q[c];
        out[(t * s.v_heads + h) * s.v_dim + d] = o;
      }
    }
    states.insert(states.end(), state.begin(), state.end());
  }
  if (state_out != nullptr) *state_out = states;
  return out;
}

struct Case {
  DeltaShape shape;
  DType state;
};

class GatedDeltaRule : public testing::TestWithParam<Case> {
 protected:
  const DeltaShape shape = GetParam().shape;
  Tensor new_pool(int64_t slots) const { return make_delta_pool(slots, shape, GetParam().state); }
};

TEST_P(GatedDeltaRule, IsTheRecurrence) {
  const Inputs in(shape, kLengths, 1);
  Tensor pool = new_pool(8);
  Pieces pieces;
  for (size_t s = 0; s < kLengths.size(); ++s)
    pieces.push_back(Piece{static_cast<int32_t>(s), 0, kLengths[s], -1, static_cast<int32_t>(2 * s)});
  const std::vector<Tensor> out = play({pieces}, in, shape, pool, 2);
  for (size_t s = 0; s < kLengths.size(); ++s) {
    std::vector<double> want_state;
    const std::vector<double> want = recurrence(in, s, shape, &want_state);
    const double tolerance = GetParam().state == DType::kBF16 ? 2e-2 : 2e-5;
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(out[s].data<float>()[i], want[i], tolerance) << "sequence " << s << " element " << i;
    const Tensor state = delta_state(pool, shape, static_cast<int64_t>(2 * s), kLengths[s]);
    for (size_t i = 0; i < want_state.size(); ++i)
      ASSERT_NEAR(state.data<float>()[i], want_state[i], tolerance) << "state " << s << " element " << i;
  }
}

TEST_P(GatedDeltaRule, GivesTheSameBitsHoweverSequencesAreCut) {
  const Inputs in(shape, kLengths, 2);
  Tensor pool = new_pool(8);
  const std::vector<Tensor> want = play(one_by_one(kLengths), in, shape, pool, 1);
  for (uint32_t seed = 0; seed < 8; ++seed) {
    std::vector<int32_t> last;
    const std::vector<Pieces> steps = random_cuts(kLengths, seed, last);
    Tensor cut_pool = new_pool(8);
    const std::vector<Tensor> got = play(steps, in, shape, cut_pool, 1 + static_cast<int>(seed % 3));
    for (size_t s = 0; s < kLengths.size(); ++s) {
      expect_same_bits(got[s], want[s], concat("cut ", seed, " sequence ", s));
      expect_same_bits(delta_state(cut_pool, shape, last[s], kLengths[s]),
                       delta_state(pool, shape, static_cast<int64_t>(2 * s), kLengths[s]), concat("state of cut ", seed, " sequence ", s));
    }
  }
}

TEST_P(GatedDeltaRule, ContinuesFromASnapshotAtAnyPosition) {
  const std::vector<int32_t> lengths{260};
  const Inputs in(shape, lengths, 3);
  Tensor pool = new_pool(12);
  const std::vector<Tensor> want = play(one_by_one(lengths), in, shape, pool, 1);
  const std::vector<Snapshot> snapshots{{31, 2}, {32, 3}, {64, 4}, {65, 5}, {128, 6}, {150, 7}, {192, 8}, {230, 9}};
  for (const bool in_place : {true, false}) {
    Tensor snapshot_pool = new_pool(12);
    const int32_t end_slot = in_place ? 0 : 1;
    play({{Piece{0, 0, 30, -1, 0}}, {Piece{0, 30, 200, 0, end_slot, snapshots}}}, in, shape, snapshot_pool, 2);
    for (const Snapshot& s : snapshots) {
      Tensor copy = copy_of(snapshot_pool);
      const std::vector<Tensor> got = play({{Piece{0, s.position, 260 - s.position, s.slot, 10}}}, in, shape, copy, 2);
      expect_same_bits(got[0].rows(s.position, 260), want[0].rows(s.position, 260), concat("from position ", s.position));
      expect_same_bits(delta_state(copy, shape, 10, 260), delta_state(pool, shape, 0, 260), concat("state from ", s.position));
    }
  }
}

TEST_P(GatedDeltaRule, LeavesAReadSlotOfTwoRowsUntouched) {
  for (const int32_t prefix : {64, 40}) {
    const std::vector<int32_t> lengths{150, 150};
    Inputs in(shape, lengths, 4);
    for (auto* list : {&in.qkv, &in.g, &in.beta})  // a common prefix
      std::memcpy((*list)[1].data<float>(), (*list)[0].data<float>(), static_cast<size_t>(prefix * (*list)[0].dim(1)) * sizeof(float));
    Tensor pool = new_pool(8);
    const std::vector<Tensor> want = play(one_by_one(lengths), in, shape, pool, 1);
    Tensor shared = new_pool(8);
    play({{Piece{0, 0, prefix, -1, 7}}}, in, shape, shared, 1);
    const Tensor before = copy_of(shared.rows(7, 8));
    const std::vector<Tensor> got =
        play({{Piece{0, prefix, 3, 7, 0}, Piece{1, prefix, 150 - prefix, 7, 2}}, {Piece{0, prefix + 3, 147 - prefix, 0, 1}}}, in, shape,
             shared, 2);
    EXPECT_EQ(std::memcmp(shared.rows(7, 8).raw(), before.raw(), static_cast<size_t>(before.nbytes())), 0);
    for (size_t s = 0; s < 2; ++s) expect_same_bits(got[s].rows(prefix, 150), want[s].rows(prefix, 150), concat("sequence ", s));
  }
}

// Sequence 1 goes its own way from `position` on; sequence 0 then continues from its slot as if the surplus had never been computed.
TEST_P(GatedDeltaRule, ReadsASlotAtAnEarlierPositionAsIfItHadSeenNoMore) {
  const std::vector<int32_t> lengths{150, 150};
  const Inputs whole(shape, lengths, 5);
  Tensor pool = new_pool(8);
  const std::vector<Tensor> want = play(one_by_one(lengths), whole, shape, pool, 1);
  for (const int32_t seen : {5, 64, 66, 79, 80, 128, 135, 144}) {
    for (int32_t back = 0; back <= kConvHistory; ++back) {
      const int32_t position = seen - back;
      if (position < 1 || position < (seen - 1) / kDeltaBlock * kDeltaBlock) continue;  // before the block of its state
      Inputs in(shape, lengths, 5);
      for (auto* list : {&in.qkv, &in.g, &in.beta})
        std::memcpy((*list)[1].data<float>(), (*list)[0].data<float>(), static_cast<size_t>(position * (*list)[0].dim(1)) * sizeof(float));
      for (const int32_t to : {6, 7}) {  // 6: in place
        for (const int32_t count : {1, 150 - position}) {
          Tensor slots = new_pool(8);
          play({{Piece{1, 0, seen, -1, 6}}}, in, shape, slots, 2);
          std::vector<Pieces> steps = {{Piece{0, position, count, 6, to}}};
          if (position + count < 150) steps.push_back({Piece{0, position + count, 150 - position - count, to, to}});
          const std::vector<Tensor> got = play(steps, in, shape, slots, 2);
          const std::string what = concat("seen ", seen, ", read at ", position, " into ", to, ", first ", count);
          expect_same_bits(got[0].rows(position, 150), want[0].rows(position, 150), what);
          expect_same_bits(delta_state(slots, shape, to, 150), delta_state(pool, shape, 0, 150), what);
        }
      }
    }
  }
}

TEST_P(GatedDeltaRule, TakesASnapshotThatIsReadableAPageEarlierToo) {
  const std::vector<int32_t> lengths{150};
  const Inputs in(shape, lengths, 6);
  Tensor pool = new_pool(8);
  const std::vector<Tensor> want = play(one_by_one(lengths), in, shape, pool, 1);
  for (const int32_t position : {32, 48, 64, 80, 128, 144}) {
    for (const int32_t earlier : {0, 16}) {
      Tensor slots = new_pool(8);
      play({{Piece{0, 0, 10, -1, 0}}, {Piece{0, 10, 140, 0, 0, {{position, 3}}}}}, in, shape, slots, 2);
      const int32_t from = position - earlier;
      const std::vector<Tensor> got = play({{Piece{0, from, 150 - from, 3, 4}}}, in, shape, slots, 1);
      expect_same_bits(got[0].rows(from, 150), want[0].rows(from, 150), concat("snapshot at ", position, " read at ", from));
    }
  }
}

TEST(GatedDeltaRuleDeath, ASlotIsReadOnlyWhereItsStateReaches) {
  const DeltaShape shape{1, 1, 16, 16};
  const std::vector<int32_t> lengths{150};
  const Inputs in(shape, lengths, 7);
  Tensor pool = make_delta_pool(2, shape);
  play({{Piece{0, 0, 100, -1, 0}}}, in, shape, pool, 1);
  EXPECT_DEATH(play({{Piece{0, 101, 1, 0, 0}}}, in, shape, pool, 1), "row 0 at position 101 reads slot 0");
  EXPECT_DEATH(play({{Piece{0, 75, 1, 0, 0}}}, in, shape, pool, 1), "after 100 tokens") << "the convolution's inputs are gone";
  play({{Piece{0, 100, 30, 0, 0}}}, in, shape, pool, 1);
  EXPECT_DEATH(play({{Piece{0, 127, 1, 0, 0}}}, in, shape, pool, 1), "a state of block 128") << "its state is folded";
}

INSTANTIATE_TEST_SUITE_P(Shapes, GatedDeltaRule,
                         testing::Values(Case{{1, 2, 128, 128}, DType::kF32}, Case{{2, 4, 32, 48}, DType::kF32},
                                         Case{{2, 2, 20, 7}, DType::kF32}, Case{{1, 3, 24, 40}, DType::kF32},
                                         Case{{1, 1, 33, 130}, DType::kF32}, Case{{2, 4, 32, 48}, DType::kBF16},
                                         Case{{1, 1, 33, 129}, DType::kBF16}, Case{{1, 2, 128, 128}, DType::kBF16},
                                         Case{{1, 3, 32, 192}, DType::kF32}, Case{{2, 2, 96, 64}, DType::kBF16}),
                         [](const auto& info) {
                           const DeltaShape& s = info.param.shape;
                           return concat("K", s.k_heads, "x", s.k_dim, "V", s.v_heads, "x", s.v_dim, name(info.param.state));
                         });

TEST(GatedDeltaRuleStep, WithoutTokensDoesNothing) {
  const DeltaShape shape{1, 1, 16, 16};
  ThreadPool team(2, false);
  Arena arena(size_t{1} << 20);
  Context ctx{team, arena};
  Tensor pool = make_delta_pool(2, shape);
  const DeltaGates gates{arena.empty({0, 1}), arena.empty({0, 1})};
  EXPECT_EQ(gated_delta_rule(ctx, arena.empty({0, shape.channels()}), gates, pool, shape, rows_of({})).shape(), (Shape{0, 16}));
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

class CausalConv : public testing::TestWithParam<std::tuple<int64_t, int64_t>> {};  // channels, kernel

std::vector<Tensor> play_conv(const std::vector<Pieces>& steps, const std::vector<Tensor>& u, const Tensor& w, Tensor& pool, int threads) {
  ThreadPool team(threads, false);
  Arena arena(size_t{64} << 20);
  Context ctx{team, arena};
  std::vector<Tensor> out;
  for (const Tensor& x : u) out.push_back(copy_of(x));
  for (const Pieces& pieces : steps) {
    arena.reset();
    scatter(causal_conv_silu(ctx, gather(u, pieces), w, pool, rows_of(pieces)), pieces, out);
  }
  return out;
}

TEST_P(CausalConv, IsTheFormulaAndGivesTheSameBitsHoweverSequencesAreCut) {
  const auto [channels, kernel] = GetParam();
  const std::vector<Tensor> u = random_sequences(kLengths, {channels}, 8);
  const Tensor w = random_normal({kernel, channels}, 9);
  Tensor pool = make_conv_pool(8, channels, kernel);
  const std::vector<Tensor> want = play_conv(one_by_one(kLengths), u, w, pool, 1);
  for (size_t s = 0; s < u.size(); ++s)
    for (int64_t t = 0; t < u[s].dim(0); ++t)
      for (int64_t c = 0; c < channels; ++c) {
        double sum = 0;
        for (int64_t j = 0; j < kernel; ++j)
          if (const int64_t at = t - (kernel - 1) + j; at >= 0)
            sum += static_cast<double>(w.data<float>()[j * channels + c]) * u[s].data<float>()[at * channels + c];
        ASSERT_NEAR(want[s].data<float>()[t * channels + c], sum / (1.0 + std::exp(-sum)), 2e-6 + 1e-6 * std::fabs(sum))
            << s << " token " << t << " channel " << c;
      }
  for (uint32_t seed = 0; seed < 8; ++seed) {
    std::vector<int32_t> last;
    const std::vector<Pieces> steps = random_cuts(kLengths, seed, last);
    Tensor cut_pool = make_conv_pool(8, channels, kernel);
    const std::vector<Tensor> got = play_conv(steps, u, w, cut_pool, 1 + static_cast<int>(seed % 3));
    for (size_t s = 0; s < u.size(); ++s) expect_same_bits(got[s], want[s], concat("cut ", seed, " sequence ", s));
  }
}

TEST_P(CausalConv, ContinuesFromASnapshot) {
  const auto [channels, kernel] = GetParam();
  const std::vector<int32_t> lengths{40};
  const std::vector<Tensor> u = random_sequences(lengths, {channels}, 10);
  const Tensor w = random_normal({kernel, channels}, 11);
  Tensor pool = make_conv_pool(6, channels, kernel), snapshot_pool = make_conv_pool(6, channels, kernel);
  const std::vector<Tensor> want = play_conv(one_by_one(lengths), u, w, pool, 1);
  const std::vector<Snapshot> snapshots{{6, 1}, {7, 2}, {20, 3}};
  play_conv({{Piece{0, 0, 5, -1, 0}}, {Piece{0, 5, 15, 0, 0, snapshots}}}, u, w, snapshot_pool, 2);
  for (const Snapshot& s : snapshots) {
    const std::vector<Tensor> got = play_conv({{Piece{0, s.position, 40 - s.position, s.slot, 4}}}, u, w, snapshot_pool, 1);
    expect_same_bits(got[0].rows(s.position, 40), want[0].rows(s.position, 40), concat("from ", s.position));
  }
}

TEST_P(CausalConv, ReadsASlotAtAnEarlierPositionAsIfItHadSeenNoMore) {
  const auto [channels, kernel] = GetParam();
  const std::vector<int32_t> lengths{90, 90};
  const std::vector<Tensor> whole = random_sequences(lengths, {channels}, 12);
  const Tensor w = random_normal({kernel, channels}, 13);
  Tensor pool = make_conv_pool(6, channels, kernel);
  const std::vector<Tensor> want = play_conv(one_by_one(lengths), whole, w, pool, 1);
  for (const int32_t seen : {1, 3, 20, 40, 61}) {
    for (int32_t position = std::max<int32_t>(1, seen - static_cast<int32_t>(kConvHistory)); position <= seen; ++position) {
      std::vector<Tensor> u = random_sequences(lengths, {channels}, 12);
      std::memcpy(u[1].data<float>(), u[0].data<float>(), static_cast<size_t>(position * channels) * sizeof(float));
      for (const int32_t to : {4, 5}) {  // 4: in place
        Tensor slots = make_conv_pool(6, channels, kernel);
        const std::vector<Tensor> got = play_conv(
            {{Piece{1, 0, seen, -1, 4}}, {Piece{0, position, 2, 4, to}}, {Piece{0, position + 2, 88 - position, to, to}}}, u, w, slots, 2);
        expect_same_bits(got[0].rows(position, 90), want[0].rows(position, 90),
                         concat("seen ", seen, ", read at ", position, " into ", to));
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, CausalConv, testing::Combine(testing::Values(1, 17, 200), testing::Values(1, 2, 4)));

}  // namespace
}  // namespace weir::ops
