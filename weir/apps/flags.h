// Command-line flags as data: a command writes one table of FlagSpec and reads typed values back. Spelling follows vLLM's argparse:
// `--flag value`, `--flag=value`, `--flag/--no-flag`, `_` for `-`, unambiguous prefixes, and `--json-flag.key value` for JSON objects.
// Everything wrong on a command line throws UsageError, which names the flag, the value seen and what is allowed.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "weir/base/error.h"
#include "weir/base/json.h"

namespace weir {

// The user's mistake in calling a program: exit code 2, where other errors give 1.
struct UsageError : Error {
  explicit UsageError(const std::string& message) : Error(ErrorCode::kInvalidArgument, message) {}
};

enum class FlagType : uint8_t {
  kBool,  // --flag, --no-flag, --flag=true
  kInt,
  kCount,  // an integer that people may write as 32k (32,000), 32K or 32Ki (32,768), 1.5G, …
  kNumber,
  kText,
  kTexts,  // several values after one flag, and the flag may be repeated
  kJson,   // an object; parts may be given as --flag.key.key value
};

struct FlagSpec {
  std::string name;  // without dashes: "max-model-len"
  FlagType type = FlagType::kText;
  std::string group;  // heading in --help
  std::string help;
  std::string fallback = {};                 // value when not given, in the spelling of the command line; empty: none
  std::string value_name = {};               // in --help; empty: from the type
  std::vector<std::string> aliases = {};     // other long names, or short ones with their dash: "-tp"
  std::vector<std::string> choices = {};     // kText: the values allowed; numbers: words allowed beside them ("auto", "inf")
  std::optional<double> min = {}, max = {};  // numbers: allowed range, both ends included
};

struct CommandSpec {
  std::string name;                      // "serve"
  std::string summary;                   // one line
  std::vector<std::string> positionals;  // value names, in order: {"MODEL"}; all optional for the parser
  std::vector<FlagSpec> flags;
  std::string epilogue = {};  // end of --help: examples
};

// The flags of one command line, checked and typed. Asking for a name the table lacks, or for another type than it says, is a bug.
class Flags {
 public:
  // `command` must outlive the result.
  static Flags parse(const CommandSpec& command, std::span<const std::string> args);

  bool given(std::string_view name) const;
  // The value given, or the table's fallback; nullopt when there is neither, or a word ("auto") in place of a number.
  std::optional<bool> find_boolean(std::string_view name) const;
  std::optional<int64_t> find_integer(std::string_view name) const;  // kInt, kCount
  std::optional<double> find_number(std::string_view name) const;
  std::optional<std::string> find_text(std::string_view name) const;  // kText; the word given instead of a number
  std::optional<Json> find_json(std::string_view name) const;
  std::vector<std::string> texts(std::string_view name) const;  // empty when not given
  // The same for flags that have a fallback.
  bool boolean(std::string_view name) const;
  int64_t integer(std::string_view name) const;
  double number(std::string_view name) const;
  std::string text(std::string_view name) const;

  std::optional<std::string> positional(size_t index) const;
  // What --help was asked about: nullopt when it was not given, empty for all of it, else a group or a flag.
  const std::optional<std::string>& help_topic() const { return help_topic_; }
  // "--port 9000 --seed 1": what was given, in the table's order and spelling; values of flags named *key* are hidden.
  std::string given_text() const;

 private:
  struct Value {
    std::vector<std::string> texts;  // as written; kTexts: all of them
    Json json;                       // kJson
  };
  explicit Flags(const CommandSpec& command) : command_(&command) {}
  const FlagSpec& spec(std::string_view name) const;
  const std::string* raw(std::string_view name, FlagType type) const;
  void store(const FlagSpec& flag, std::string_view path, const std::string& text, const std::string& spelled);

  const CommandSpec* command_;
  std::map<std::string, Value, std::less<>> values_;
  std::vector<std::string> positionals_;
  std::optional<std::string> help_topic_;
};

// `topic`: empty for everything, else a group ("Scheduling"), a flag ("--max-model-len") or a word to search for.
std::string help_text(const CommandSpec& command, std::string_view topic, int columns);

// Human-readable integer: "32768", "32k", "32K", "32Ki", "1.5G", "-1". Lower-case suffixes are powers of 1000, upper-case ones of 1024.
// nullopt when it is not one, has a fraction left over, or does not fit.
std::optional<int64_t> parse_count(std::string_view text);

// The names closest to `wanted` by edit distance (and those that contain it), best first; far ones are left out.
std::vector<std::string> nearest_names(std::string_view wanted, std::span<const std::string> names, size_t limit = 3);

}  // namespace weir
