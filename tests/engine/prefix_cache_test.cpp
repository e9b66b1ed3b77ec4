// What the scheduler makes of the prefix cache: how much is computed again. That the answers do not change is checked along the way by the
// fake model, and by the random cases of scheduler_test.
#include <gtest/gtest.h>

#include <random>

#include "tests/engine/loop.h"
#include "tests/engine/requests.h"

namespace weir {
namespace {

using testing::expect_answer;
using testing::Loop;
using testing::make_request;
using testing::random_prompt;
using testing::tokens_exactly;

using Text = std::vector<Token>;

EngineConfig roomy(int32_t pages = 4000, int32_t slots = 200) {
  EngineConfig config;
  config.cache = {.num_pages = pages, .num_slots = slots};
  config.scheduler.max_num_seqs = 8;
  config.scheduler.max_num_batched_tokens = 512;
  config.scheduler.max_model_len = 60'000;
  return config;
}

// One request after the other; tells how many tokens each had computed.
struct Client {
  explicit Client(EngineConfig config = roomy()) : loop(std::move(config)) {}

  // Returns prompt and answer.
  Text ask(const Text& prompt, int32_t max_tokens = 1, SamplingParams params = tokens_exactly(1), std::string salt = {}) {
    params.max_tokens = max_tokens;
    Request request = make_request(next++, prompt, params);
    request.cache_salt = std::move(salt);
    const int64_t before = loop.executor.tokens_computed();
    loop.add(request);
    loop.run();
    const auto& answer = loop.answers[request.id];
    expect_answer(answer, request, loop.config);
    cached = answer.usage.cached_tokens;
    computed = static_cast<int32_t>(loop.executor.tokens_computed() - before) - (max_tokens - 1);
    EXPECT_EQ(computed + cached, static_cast<int32_t>(prompt.size()));
    Text whole = prompt;
    whole.insert(whole.end(), answer.tokens.begin(), answer.tokens.end());
    return whole;
  }

  Loop loop;
  uint64_t next = 0;
  int32_t computed = 0, cached = 0;  // of the last prompt
};

TEST(PrefixCache, ARepeatedPromptOfAnyLengthComputesAtMostSixteenTokens) {
  std::mt19937 rng(1);
  Client client(roomy(60'000, 600));
  for (int32_t length = 1; length <= 200; ++length) {
    const Text prompt = random_prompt(rng, length);
    client.ask(prompt);
    EXPECT_EQ(client.computed, length);
    client.ask(prompt);
    EXPECT_LE(client.computed, 16) << length;
    client.ask(prompt, 5);
    EXPECT_LE(client.computed, 16) << length;
  }
  for (const int32_t length : {512, 1000, 1024, 1025, 2047, 2048, 2049, 3000, 8192}) {
    const Text prompt = random_prompt(rng, length);
    client.ask(prompt, 3);
    client.ask(prompt, 3);
    EXPECT_LE(client.computed, 16) << length;
  }
}

TEST(PrefixCache, ATurnThatIsAppendedComputesOnlyWhatIsNew) {
  std::mt19937 rng(2);
  Client client;
  Text history = random_prompt(rng, 150);
  size_t known = 0;
  for (int turn = 0; turn < 20; ++turn) {
    const Text user = random_prompt(rng, 5 + static_cast<int32_t>(rng() % 90));
    history.insert(history.end(), user.begin(), user.end());
    const size_t prompt = history.size();
    history = client.ask(history, 1 + static_cast<int32_t>(rng() % 120));
    // The token sampled last was never computed.
    if (turn > 0) {
      EXPECT_LE(static_cast<size_t>(client.computed), prompt - (known - 1) + 16) << "turn " << turn;
    }
    known = history.size();
  }
}

// As Qwen's template does it: the prompt ends inside an opened thought, and the next turn has the answer without it.
TEST(PrefixCache, ATurnWhoseThoughtIsDroppedFromHistoryComputesOnlyTheAnswerAndWhatIsNew) {
  const Text generation_prompt = {40, 41, 42, 43};  // <|im_start|>assistant \n, then what is dropped: <think> \n
  for (const size_t dropped : {2, 4}) {             // with thinking off, four tokens of an empty thought
    std::mt19937 rng(3);
    Client client;
    Text history = random_prompt(rng, 40);
    size_t common = 0;
    for (int turn = 0; turn < 40; ++turn) {
      const Text user = random_prompt(rng, 5 + static_cast<int32_t>(rng() % 60));
      history.insert(history.end(), user.begin(), user.end());
      Text prompt = history;
      prompt.insert(prompt.end(), generation_prompt.begin(), generation_prompt.end());
      const Text whole = client.ask(prompt, 60);
      if (turn > 0) {
        EXPECT_LE(static_cast<size_t>(client.computed), prompt.size() - common + 16) << "turn " << turn;
      }
      common = prompt.size() - dropped;
      history = {prompt.begin(), prompt.begin() + static_cast<std::ptrdiff_t>(common)};
      history.push_back(44);  // the answer's text begins otherwise than the thought did
      history.insert(history.end(), whole.end() - 20, whole.end());
    }
  }
}

TEST(PrefixCache, TheSecondQuestionAboutADocumentLeavesAStateAtItsEndForTheThird) {
  std::mt19937 rng(4);
  EngineConfig config = roomy();
  config.cache.snapshot_interval = 2048;
  Client client(config);
  const Text document = random_prompt(rng, 3000);
  const auto question = [&](Token first) {
    Text prompt = document;
    prompt.push_back(first);
    const Text rest = random_prompt(rng, 200);
    prompt.insert(prompt.end(), rest.begin(), rest.end());
    return prompt;
  };
  client.ask(question(1));
  EXPECT_EQ(client.cached, 0);
  client.ask(question(2));
  EXPECT_EQ(client.cached, 2048) << "a multiple of the interval";
  client.ask(question(3));
  EXPECT_EQ(client.cached, 2992);
}

TEST(PrefixCache, RequestsAtTheSameTimeShareWhatAnEarlierOneComputed) {
  std::mt19937 rng(5);
  Loop loop(roomy());
  const Text document = random_prompt(rng, 500);
  loop.add(make_request(0, document, tokens_exactly(40)));
  while (loop.answers[RequestId{0}].num_outputs == 0) loop.step();
  for (uint64_t id = 1; id < 6; ++id) loop.add(make_request(id, document, tokens_exactly(40)));
  const StepPlan plan = loop.step();
  ASSERT_EQ(plan.rows.size(), 6u);
  for (size_t i = 1; i < 6; ++i) {
    EXPECT_EQ(plan.rows[i].start, 496);
    EXPECT_EQ(plan.rows[i].pages[30], plan.rows[0].pages[30]);
    EXPECT_EQ(plan.rows[i].state_read, plan.rows[1].state_read);
  }
  EXPECT_EQ(loop.cache.pages_used(), 31 + 6) << "a last page for each of them";
  loop.run();
  for (const auto& [id, request] : loop.requests) expect_answer(loop.answers[id], request, loop.config);
}

TEST(PrefixCache, PagesComputedTwiceAtTheSameTimeAreKeptOnce) {
  std::mt19937 rng(6);
  Loop loop(roomy());
  const Text text = random_prompt(rng, 200);
  for (uint64_t id = 0; id < 2; ++id) loop.add(make_request(id, text, tokens_exactly(40)));
  loop.step();
  EXPECT_EQ(loop.cache.pages_used(), 12 + 2);
  loop.run();
}

TEST(PrefixCache, ASequenceThatWasPreemptedGoesOnNearWhereItWas) {
  Loop loop([] {
    EngineConfig config = roomy(8, 4);
    config.scheduler.max_num_seqs = 2;
    return config;
  }());
  loop.add(make_request(0, Text(30, 5), tokens_exactly(50)));
  loop.step();
  loop.add(make_request(1, Text(40, 6), tokens_exactly(80)));
  while (loop.scheduler.counters().preemptions == 0 && !loop.scheduler.idle()) loop.step();
  EXPECT_EQ(loop.scheduler.counters().preemptions, 1);
  loop.run();
  for (const auto& [id, request] : loop.requests) expect_answer(loop.answers[id], request, loop.config);
  EXPECT_LT(loop.executor.tokens_computed(), 30 + 49 + 40 + 79 + 20);
  EXPECT_EQ(loop.answers[RequestId{1}].usage.cached_tokens, 0) << "its own work is not a cached prompt";
  EXPECT_EQ(loop.scheduler.counters().prefix_queries, 70);
  EXPECT_EQ(loop.scheduler.counters().prefix_hits, 0);
}

TEST(PrefixCache, AnAbortedRequestLeavesWhatItHadComputed) {
  std::mt19937 rng(7);
  Client client;
  const Text prompt = random_prompt(rng, 1000);
  client.loop.add(make_request(client.next++, prompt, tokens_exactly(10)));
  client.loop.step();
  client.loop.abort(0);
  client.ask(prompt);
  EXPECT_EQ(client.cached, 512) << "the first chunk";
}

TEST(PrefixCache, SaltsDivideTextsAndAResetForgetsThem) {
  std::mt19937 rng(8);
  Client client;
  const Text prompt = random_prompt(rng, 100);
  client.ask(prompt, 1, tokens_exactly(1), "alice");
  client.ask(prompt, 1, tokens_exactly(1), "bob");
  EXPECT_EQ(client.cached, 0);
  client.ask(prompt);
  EXPECT_EQ(client.cached, 0);
  client.ask(prompt, 1, tokens_exactly(1), "alice");
  EXPECT_EQ(client.cached, 96);
  client.loop.scheduler.apply(ResetPrefixCache{});
  EXPECT_EQ(client.loop.cache.pages_cached() + client.loop.cache.slots_cached(), 0);
  client.ask(prompt, 1, tokens_exactly(1), "alice");
  EXPECT_EQ(client.cached, 0);
}

TEST(PrefixCache, PromptLogprobsAreComputedAndStillLeaveTheirPages) {
  std::mt19937 rng(9);
  Client client;
  const Text prompt = random_prompt(rng, 100);
  SamplingParams params = tokens_exactly(1);
  params.prompt_logprobs = 1;
  client.ask(prompt, 1, params);
  client.ask(prompt, 1, params);
  EXPECT_EQ(client.cached, 0);
  client.ask(prompt);
  EXPECT_EQ(client.cached, 96);
}

TEST(PrefixCache, OffItChangesNothingAndCountsNothing) {
  std::mt19937 rng(10);
  EngineConfig config = roomy();
  config.cache.prefix_caching = false;
  Client client(config);
  const Text prompt = random_prompt(rng, 100);
  for (int i = 0; i < 2; ++i) {
    client.ask(prompt);
    EXPECT_EQ(client.cached, 0);
  }
  EXPECT_EQ(client.loop.scheduler.counters().prefix_queries, 0);
}

TEST(PrefixCache, CountsEachPromptOnce) {
  std::mt19937 rng(11);
  Client client;
  const Text prompt = random_prompt(rng, 100);
  for (int i = 0; i < 3; ++i) client.ask(prompt);
  EXPECT_EQ(client.loop.scheduler.counters().prefix_queries, 300);
  EXPECT_EQ(client.loop.scheduler.counters().prefix_hits, 2 * 96);
}

}  // namespace
}  // namespace weir
