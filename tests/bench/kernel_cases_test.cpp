#include "weir/bench/kernel_cases.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "weir/base/error.h"
#include "weir/bench/shapes.h"
#include "weir/kernels/cpu/isa.h"
#include "weir/models/qwen3_5.h"

namespace weir::bench {
namespace {

ModelConfig small_model() {
  ModelConfig c = model_shape("mini");
  c.hidden = 64, c.vocab_size = 500;
  c.heads = 4, c.head_dim = 32, c.rotary_pairs = 4;
  c.k_heads = 2, c.v_heads = 4, c.k_dim = c.v_dim = 32;
  c.num_experts = 8, c.top_k = 2, c.expert_intermediate = c.shared_intermediate = 32;
  return c;
}

TEST(Shapes, HaveThePublishedNumbersOfParameters) {
  // Text parameters of the published models, in billions; packed BF16 weights are two bytes each but for padding and norms.
  const std::map<std::string, double> parameters = {{"35B-A3B", 34.661}, {"122B-A10B", 122.112}, {"397B-A17B", 396.346}};
  for (const auto& [name, billions] : parameters)
    EXPECT_NEAR(static_cast<double>(packed_weight_bytes(model_shape(name), DType::kBF16)) / 2e9, billions, billions * 1e-3) << name;
}

TEST(Shapes, AreFoundInAnyCaseAndUnknownOnesAreNamed) {
  EXPECT_EQ(model_shape("397b-a17b").num_experts, 512);
  EXPECT_EQ(model_shape(WEIR_SOURCE_DIR "/models/weir-tiny").model_type, "qwen3_5_moe");
  try {
    model_shape("400B");
    FAIL() << "400B is no shape";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("\"400B\" is neither a known shape (mini, 35B-A3B, 122B-A10B, 397B-A17B)"), std::string::npos);
  }
}

TEST(KernelCases, EveryOperatorRunsAndSaysWhatItMustDo) {
  const ModelConfig model = small_model();
  ThreadPool pool(1, /*pin=*/false);
  const CaseOptions options{.tokens = {70, 1, 3}, .context = 40, .filter = {}, .memory = 1 << 20};  // chunks first: no case spoils another
  std::map<std::string, std::set<int64_t>> seen;
  each_kernel_case(model, options, pool, [&](const KernelCase& kernel) {
    for (int i = 0; i < 3; ++i) {
      const Cost cost = kernel.run();
      EXPECT_GT(cost.bytes, 0) << kernel.kernel;
      EXPECT_GT(cost.operations, 0) << kernel.kernel;
    }
    seen[kernel.kernel].insert(kernel.tokens);
  });
  for (const char* name : {"linear, delta net in", "linear, attention out", "linear, router", "experts", "delta net core",
                           "paged attention", "norm", "norm and rotate", "gate heads", "delta gates", "choose experts"})
    EXPECT_EQ(seen[name], (std::set<int64_t>{1, 3, 70})) << name;
  EXPECT_EQ(seen["head"], (std::set<int64_t>{1, 3})) << "logits are made for few positions at a time";
}

TEST(KernelCases, AnExpertIsReadOnceForAllTokensThatChooseIt) {
  const ModelConfig model = small_model();
  ThreadPool pool(1, /*pin=*/false);
  const CaseOptions options{.types = {DType::kBF16}, .tokens = {1, 64}, .filter = "experts", .memory = 1 << 20};
  const auto expert = static_cast<double>(ops::PackedMatrix::packed_bytes(64, 64, DType::kBF16, ops::WeightCoding::kTwelveBits) +
                                          ops::PackedMatrix::packed_bytes(64, 32, DType::kBF16, ops::WeightCoding::kTwelveBits));
  each_kernel_case(model, options, pool, [&](const KernelCase& kernel) {
    if (kernel.kernel != "experts") return;
    EXPECT_EQ(kernel.run().bytes, (kernel.tokens == 1 ? 3 : 9) * expert) << "the shared one, and two or all of eight";
  });
}

TEST(KernelCases, AFilterLeavesTheOthersOut) {
  ThreadPool pool(1, /*pin=*/false);
  const ModelConfig model = small_model();
  std::set<std::string> names;
  each_kernel_case(model, {.tokens = {1}, .context = 16, .filter = "norm", .memory = 1 << 20}, pool,
                   [&](const KernelCase& kernel) { names.insert(kernel.kernel); });
  EXPECT_EQ(names, (std::set<std::string>{"norm", "norm and rotate"}));
}

TEST(Measurement, ComparesWithCeilingsOfTheSameRun) {
  ThreadPool pool(1, /*pin=*/false);
  Machine machine(pool, Clock(/*on_cpu=*/true));
  const Tensor memory = Tensor::zeros({int64_t{64} << 20}, DType::kU8);
  const auto& core = cpu::core_ceilings(cpu::Isa::kScalar);
  const KernelCase reading{"read", "", DType::kF32, 1, [&] {
                             core.read(memory.raw(), memory.nbytes());
                             return Cost{static_cast<double>(memory.nbytes()), 0};
                           }};
  const Measurement m = measure(machine, reading, 3);
  EXPECT_GT(m.read_ceiling, 1e8);
  EXPECT_GT(m.compute_ceiling, 1e8);
  EXPECT_NEAR(m.seconds * m.bytes_rate, static_cast<double>(memory.nbytes()), 0.5 * static_cast<double>(memory.nbytes()));
  EXPECT_GT(m.of_bound, 0);
}

}  // namespace
}  // namespace weir::bench
