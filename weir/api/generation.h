// One HTTP request on its way through the engine: the engine requests it makes and the OpenAI answer that grows from their outputs.
// Choice index = prompt * n + sample, as vLLM counts. Without sockets, threads or clocks; used by one thread at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "weir/api/choice_stream.h"
#include "weir/api/logprobs.h"
#include "weir/api/request.h"

namespace weir {

struct AnswerId {
  std::string id;       // without its prefix: "cmpl-" or "chatcmpl-" is put before it
  int64_t created = 0;  // seconds since 1970
};

class Generation {
 public:
  // Render, tokenize, check lengths and ranges; FieldError for the client.
  Generation(const CompletionRequest& request, const ServedModel& model, const ApiOptions& options, const AnswerId& answer);
  Generation(const ChatRequest& request, const ServedModel& model, const ApiOptions& options, const AnswerId& answer);

  bool stream() const { return fields_.stream; }
  const std::string& id() const { return id_; }
  int32_t num_choices() const { return static_cast<int32_t>(choices_.size()); }
  const ChoiceStream& choice(int32_t index) const { return choices_[index].stream; }
  Request engine_request(int32_t choice, RequestId id) const;

  // News of one choice. True: its engine request must be aborted.
  bool push(int32_t choice, RequestOutput output);
  bool finished() const;  // every choice has ended

  // stream: the chunks (JSON text) that tell what is new; after the last choice ended, once, the chunk with the usage if wanted.
  std::vector<std::string> take_chunks();
  // not stream: the whole answer. REQUIRES: finished(), failure() is nullopt; called once.
  Json take_response();
  std::optional<std::string> failure() const;  // why the engine failed, if it did

 private:
  struct Prompt {
    std::vector<Token> tokens;
    std::shared_ptr<const SamplingParams> sampling;
  };
  struct Choice {
    ChoiceStream stream;
    CompletionLogprobs logprobs;  // completions
    bool opened = false;          // its first chunk is out
    bool closed = false;          // its last chunk is out
  };

  Generation(const GenerationFields& fields, const ServedModel& model, const ApiOptions& options, bool chat, const AnswerId& answer);
  void add_prompt(std::vector<Token> tokens, int32_t max_tokens, const ServedModel& model, ChoiceOptions options);

  const Prompt& prompt_of(int32_t choice) const { return prompts_[choice / fields_.n]; }
  Json head() const;  // id, object, created, model
  Json usage_json(const Usage& sum, int64_t reasoning) const;
  Json usage_of(int32_t choice) const;
  Json usage_of_all() const;
  Json logprobs_of(int32_t choice, const ChoiceDelta& delta);
  void add_chunks(int32_t choice, std::vector<std::string>& out);
  std::string chunk(int32_t choice, Json choice_json) const;
  void add_end(Json& choice_json, const std::optional<ChoiceEnd>& end) const;

  GenerationFields fields_;
  bool chat_;
  bool split_reasoning_ = false;
  std::string id_;
  int64_t created_;
  std::string model_name_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  LogprobStyle style_;
  std::vector<Prompt> prompts_;
  std::vector<Choice> choices_;
  bool usage_sent_ = false;
};

const char* finish_reason_name(FinishReason reason);  // "stop", "length", "abort", "error"

}  // namespace weir
