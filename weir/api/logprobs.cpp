#include "weir/api/logprobs.h"

#include <algorithm>
#include <utility>

#include "weir/base/error.h"

namespace weir {
namespace {

constexpr float kLowest = -9999.0f;

std::string spell(const Tokenizer& tokenizer, LogprobStyle style, Token token) {
  return style.tokens_as_ids ? concat("token_id:", token) : tokenizer.token_text(token);
}

// NaN cannot come from an engine that works, but must not become invalid JSON either.
float finite(float logprob) { return logprob > kLowest ? logprob : kLowest; }

// Entry 0 is the token itself, then the `top` most likely.
std::span<const TokenLogprob> alternatives(const PositionLogprobs& position, int32_t top) {
  return std::span(position).subspan(1, std::min(position.size() - 1, static_cast<size_t>(top)));
}

int64_t count_characters(std::string_view text) {
  return std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
}

Json entry(const Tokenizer& tokenizer, LogprobStyle style, const TokenLogprob& seen) {
  Json bytes = Json::array();
  for (const char byte : tokenizer.bytes(seen.token)) bytes.push_back(static_cast<int>(static_cast<unsigned char>(byte)));
  return {{"token", spell(tokenizer, style, seen.token)}, {"logprob", finite(seen.logprob)}, {"bytes", std::move(bytes)}};
}

}  // namespace

void CompletionLogprobs::add_token(const std::string& text) {
  tokens_.push_back(text);
  text_offset_.push_back(offset_);
  offset_ += count_characters(text);
}

void CompletionLogprobs::add_unknown(Token token) {
  add_token(spell(tokenizer_, style_, token));
  token_logprobs_.push_back(nullptr);
  top_logprobs_.push_back(nullptr);
}

void CompletionLogprobs::add(const PositionLogprobs& position) {
  const TokenLogprob& own = position.front();
  const std::string text = spell(tokenizer_, style_, own.token);
  add_token(text);
  token_logprobs_.push_back(finite(own.logprob));
  // An object by text: of two tokens with the same text (halves of a character), the more likely one stays.
  Json top = Json::object();
  const auto keep = [&](const std::string& key, float logprob) {
    if (!top.contains(key) || top[key].get<float>() < logprob) top[key] = logprob;
  };
  keep(text, finite(own.logprob));
  for (const TokenLogprob& other : alternatives(position, style_.top)) keep(spell(tokenizer_, style_, other.token), finite(other.logprob));
  top_logprobs_.push_back(std::move(top));
}

Json CompletionLogprobs::take() {
  return {{"text_offset", std::exchange(text_offset_, Json::array())},
          {"token_logprobs", std::exchange(token_logprobs_, Json::array())},
          {"tokens", std::exchange(tokens_, Json::array())},
          {"top_logprobs", std::exchange(top_logprobs_, Json::array())}};
}

Json chat_logprobs(const Tokenizer& tokenizer, std::span<const PositionLogprobs> positions, LogprobStyle style) {
  Json content = Json::array();
  for (const PositionLogprobs& position : positions) {
    Json one = entry(tokenizer, style, position.front());
    Json top = Json::array();
    for (const TokenLogprob& other : alternatives(position, style.top)) top.push_back(entry(tokenizer, style, other));
    one["top_logprobs"] = std::move(top);
    content.push_back(std::move(one));
  }
  return {{"content", std::move(content)}};
}

Json prompt_logprobs_json(const Tokenizer& tokenizer, std::span<const PositionLogprobs> positions, LogprobStyle style) {
  Json out = Json::array({nullptr});
  for (const PositionLogprobs& position : positions) {
    Json one = Json::object();
    const auto add = [&](const TokenLogprob& seen) {
      one[std::to_string(seen.token)] = {
          {"logprob", finite(seen.logprob)}, {"rank", seen.rank}, {"decoded_token", tokenizer.token_text(seen.token)}};
    };
    add(position.front());
    for (const TokenLogprob& other : alternatives(position, style.top)) add(other);
    out.push_back(std::move(one));
  }
  return out;
}

}  // namespace weir
