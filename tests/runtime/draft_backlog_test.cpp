// Which tokens the draft head takes in, and when: random steps against a list of all tokens.
#include "weir/runtime/draft_backlog.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace weir {
namespace {

constexpr int64_t kWidth = 3;
constexpr int32_t kSequences = 4, kVocab = 1000;

// Token `position` of a sequence, and the trunk's output for it.
Token token_of(int32_t seq, int32_t position) { return (seq * 331 + position * 7) % kVocab; }
float output_of(int32_t seq, int32_t position, int64_t column) { return static_cast<float>(seq * 10'000 + position * 10 + column); }

struct Sequence {
  int32_t id = 0, slot = 0;
  int32_t computed = 0;  // tokens before the next row
  int32_t taken = 0;     // by the head
};

class Backlog : public testing::Test {
 protected:
  Backlog() {
    for (int32_t i = 0; i < kSequences; ++i) begin_anew(i);
  }

  // Another sequence comes to the slot, at a page that others have computed.
  void begin_anew(int32_t i) {
    const int32_t start = static_cast<int32_t>(rng_() % 4) * kPageTokens;
    sequences_[static_cast<size_t>(i)] = {.id = next_id_++, .slot = i, .computed = start, .taken = start};
  }

  // Some tokens of a prompt, or the last one with guesses, of which some are right.
  void add_row(const Sequence& seq) {
    const bool decodes = rng_() % 3 != 0;
    const auto random = [&](int32_t below) { return static_cast<int32_t>(rng_() % static_cast<uint32_t>(below)); };
    SeqStep row{.seq = SeqId(seq.id), .start = seq.computed, .state_write = SlotId(seq.slot)};
    if (seq.computed > 0) row.state_read = row.state_write;
    const int32_t guesses = decodes ? random(4) : 0, right = random(guesses + 1), length = decodes ? 1 + guesses : 1 + random(40);
    for (int32_t i = 0; i < length; ++i) {
      const bool wrong = decodes && i > right;
      row.tokens.push_back((token_of(seq.id, seq.computed + i) + (wrong ? 1 : 0)) % kVocab);
    }
    for (int32_t page = 0; page < pages_for(seq.computed + length + 1); ++page) row.pages.push_back(PageId(page));
    row.num_drafts = guesses;
    RowResult result{.seq = row.seq};
    const int32_t known = decodes ? 1 + right : length;
    if (decodes || rng_() % 2 == 0) {  // else the chunk does not end the prompt
      for (int32_t i = decodes ? 0 : length - 1; i < known; ++i) result.tokens.push_back(token_of(seq.id, seq.computed + i + 1));
      row.sample.emplace();
      row.want_drafts = random(3);
    } else {
      row.next = token_of(seq.id, seq.computed + length);
    }
    plan_.rows.push_back(row);
    results_.push_back(result);
    known_.push_back(known);
  }

  void run() {
    Arena arena(1 << 20);
    const ModelInput input = build_input(plan_, 1 << 20, kSequences, kVocab, arena);
    Tensor hidden = arena.empty(Shape{input.ids.dim(0), kWidth});
    float* next = hidden.data<float>();
    for (const SeqStep& row : plan_.rows)
      for (int32_t i = 0; i < static_cast<int32_t>(row.tokens.size()); ++i)
        for (int64_t c = 0; c < kWidth; ++c) *next++ = output_of(static_cast<int32_t>(row.seq), row.start + i, c);
    const DraftIntake intake = backlog_.take(plan_, results_, input, hidden, arena);
    build_input(intake.plan, 1 << 20, kSequences, kVocab, arena);  // throws when it contradicts itself
    check(intake);
  }

  void check(const DraftIntake& intake) {
    const float* hidden = intake.hidden.data<float>();
    int32_t taken = 0;
    for (const SeqStep& row : intake.plan.rows) {
      Sequence& seq = sequences_[static_cast<size_t>(index(row.state_write))];
      ASSERT_EQ(static_cast<int32_t>(row.seq), seq.id);
      ASSERT_EQ(row.start, seq.taken) << "nothing twice, nothing left out";
      for (size_t i = 0; i < row.tokens.size(); ++i, ++seq.taken, ++taken) {
        ASSERT_EQ(row.tokens[i], token_of(seq.id, seq.taken + 1)) << "the successor of " << seq.taken;
        for (int64_t c = 0; c < kWidth; ++c) ASSERT_EQ(*hidden++, output_of(seq.id, seq.taken, c));
      }
      const auto r = static_cast<size_t>(
          std::find_if(plan_.rows.begin(), plan_.rows.end(), [&](const SeqStep& s) { return s.seq == row.seq; }) - plan_.rows.begin());
      ASSERT_EQ(intake.last[r], plan_.rows[r].want_drafts > 0 ? taken - 1 : -1);
    }
    ASSERT_EQ(intake.hidden.dim(0), taken);
    for (size_t r = 0; r < plan_.rows.size(); ++r) {
      Sequence& seq = sequences_[static_cast<size_t>(index(plan_.rows[r].state_write))];
      seq.computed += known_[r];
      if (plan_.rows[r].want_drafts > 0)
        ASSERT_EQ(seq.taken, seq.computed) << "a guess needs all";
      else
        ASSERT_GE(seq.taken, seq.computed / kPageTokens * kPageTokens) << "a full page is complete";
    }
  }

  std::mt19937 rng_{3};
  int32_t next_id_ = 0;
  std::array<Sequence, kSequences> sequences_;
  DraftBacklog backlog_{kSequences, kWidth};
  StepPlan plan_;
  std::vector<RowResult> results_;
  std::vector<int32_t> known_;  // tokens of each row whose successor is known
};

TEST_F(Backlog, EveryTokenIsTakenInOnceInTimeForGuessesAndFullPages) {
  for (int step = 0; step < 3000; ++step) {
    plan_.rows.clear(), results_.clear(), known_.clear();
    for (int32_t i = 0; i < kSequences; ++i) {
      if (rng_() % 50 == 0 || sequences_[static_cast<size_t>(i)].computed > 500) begin_anew(i);
      if (rng_() % 4 != 0) add_row(sequences_[static_cast<size_t>(i)]);
    }
    if (!plan_.rows.empty()) run();
    ASSERT_FALSE(HasFatalFailure()) << "step " << step;
  }
}

TEST_F(Backlog, ARowThatFailedTakesNothingIn) {
  add_row(sequences_[0]);
  plan_.rows[0].next.reset();
  plan_.rows[0].sample.emplace();
  plan_.rows[0].want_drafts = 2;
  results_[0].tokens.clear();
  known_[0] = 0;
  Arena arena(1 << 20);
  const ModelInput input = build_input(plan_, 1 << 20, kSequences, kVocab, arena);
  const DraftIntake intake = backlog_.take(plan_, results_, input, arena.empty(Shape{input.ids.dim(0), kWidth}), arena);
  EXPECT_TRUE(intake.plan.rows.empty());
  EXPECT_EQ(intake.last, std::vector<int32_t>{-1});
}

}  // namespace
}  // namespace weir
