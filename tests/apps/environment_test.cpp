#include "weir/apps/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "weir/base/error.h"
#include "weir/base/json.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(Environment, AnOrdinaryOneNeedsNoWord) {
  const EnvironmentReview review = review_environment({{"HOME", "/root"}, {"PATH", "/bin"}, {"VLLM_USE_V1", ""}}, 8);
  EXPECT_THAT(review.remarks, IsEmpty());
  EXPECT_THAT(review.api_keys, IsEmpty());
  EXPECT_EQ(review.log_level, std::nullopt);
}

TEST(Environment, OmpNumThreadsIsNotObeyedAndThatIsSaid) {
  const EnvironmentReview review = review_environment({{"OMP_NUM_THREADS", "1"}}, 8);
  ASSERT_EQ(review.remarks.size(), 1u);
  EXPECT_EQ(review.remarks[0].level, LogLevel::kWarning);
  EXPECT_THAT(review.remarks[0].text, AllOf(HasSubstr("OMP_NUM_THREADS=1"), HasSubstr("--threads"), HasSubstr("8 cores")));
}

TEST(Environment, KeyAndLogLevelAreRead) {
  const EnvironmentReview review =
      review_environment({{"VLLM_API_KEY", "s3cret"}, {"VLLM_LOGGING_LEVEL", "DEBUG"}, {"VLLM_TORCH_PROFILER_DIR", "/traces"}}, 1);
  EXPECT_EQ(review.profiler_dir, "/traces");
  EXPECT_THAT(review.api_keys, ElementsAre("s3cret"));
  EXPECT_EQ(review.log_level, LogLevel::kDebug);
  EXPECT_THAT(review.remarks, IsEmpty());
  EXPECT_THROW(review_environment({{"VLLM_LOGGING_LEVEL", "LOUD"}}, 1), Error);
}

TEST(Environment, EverythingTheSeedExportsIsAcceptedInOneLine) {
  Environment environment;
  const std::string text = read_file(WEIR_SOURCE_DIR "/tests/apps/data/seed_environment.txt");
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin), equals = text.find('=', begin);
    environment[text.substr(begin, equals - begin)] = text.substr(equals + 1, end - equals - 1);
    begin = end + 1;
  }
  const EnvironmentReview review = review_environment(environment, 4);
  ASSERT_EQ(review.remarks.size(), 2u) << "OMP_NUM_THREADS, and one line for the others";
  for (const char* name :
       {"VLLM_USE_V1", "HCCL_BUFFSIZE", "TASK_QUEUE_ENABLE", "ASCEND_RT_VISIBLE_DEVICES", "VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT"})
    EXPECT_THAT(review.remarks[1].text, HasSubstr(name));
  EXPECT_THAT(review.remarks[1].text, Not(HasSubstr("LD_PRELOAD")));
}

TEST(Environment, UnknownVllmVariablesAreNamed) {
  const EnvironmentReview review = review_environment({{"VLLM_FANCY", "1"}}, 1);
  ASSERT_EQ(review.remarks.size(), 1u);
  EXPECT_THAT(review.remarks[0].text, AllOf(HasSubstr("not known"), HasSubstr("VLLM_FANCY")));
}

}  // namespace
}  // namespace weir
