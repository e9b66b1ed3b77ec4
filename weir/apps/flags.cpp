#include "weir/apps/flags.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numeric>

#include "weir/base/check.h"

namespace weir {
namespace {

template <class... Parts>
[[noreturn]] void usage(const Parts&... parts) {
  throw UsageError(concat(parts...));
}

std::string join(std::span<const std::string> words, std::string_view separator) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : std::string(separator)) + word;
  return out;
}

// "--max_model-len" and "--max-model-len" are one name; a JSON path behind the first dot keeps its spelling.
std::string canonical(std::string_view name) {
  std::string out(name);
  std::replace(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(std::min(out.find('.'), out.size())), '_', '-');
  return out;
}

bool looks_like_number(std::string_view text) {
  return text.size() >= 2 && text[0] == '-' && (std::isdigit(static_cast<unsigned char>(text[1])) || text[1] == '.');
}

std::optional<bool> parse_bool(std::string_view text) {
  for (const char* yes : {"true", "True", "1", "yes", "on"})
    if (text == yes) return true;
  for (const char* no : {"false", "False", "0", "no", "off"})
    if (text == no) return false;
  return std::nullopt;
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<int64_t> parse_int(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool is_word(const FlagSpec& flag, std::string_view text) {
  return std::find(flag.choices.begin(), flag.choices.end(), text) != flag.choices.end();
}

// A range bound as people write it: 65535, not 65535.000000 or 6.5535e+04.
std::string bound_text(double bound) {
  return bound == std::floor(bound) && std::abs(bound) < 1e15 ? std::to_string(static_cast<int64_t>(bound)) : concat(bound);
}

std::string range_text(const FlagSpec& flag) {
  if (flag.min && flag.max) return concat(" from ", bound_text(*flag.min), " to ", bound_text(*flag.max));
  if (flag.min) return concat(" of at least ", bound_text(*flag.min));
  if (flag.max) return concat(" of at most ", bound_text(*flag.max));
  return "";
}

std::string allowed_text(const FlagSpec& flag) {
  std::string what;
  switch (flag.type) {
    case FlagType::kBool: return "true or false";
    case FlagType::kInt: what = "an integer" + range_text(flag); break;
    case FlagType::kCount: what = "an integer" + range_text(flag) + " (32768, 32k = 32,000 and 32K = 32,768 are understood)"; break;
    case FlagType::kNumber: what = "a number" + range_text(flag); break;
    case FlagType::kJson: return "a JSON object";
    case FlagType::kText:
    case FlagType::kTexts: return flag.choices.empty() ? "text" : "one of: " + join(flag.choices, ", ");
  }
  return flag.choices.empty() ? what : what + ", or " + join(flag.choices, ", ");
}

void check_value(const FlagSpec& flag, const std::string& text, const std::string& spelled) {
  bool good = true;
  double size = 0;
  switch (flag.type) {
    case FlagType::kBool: good = parse_bool(text).has_value(); break;
    case FlagType::kInt:
    case FlagType::kCount: {
      if (is_word(flag, text)) return;
      const auto value = flag.type == FlagType::kInt ? parse_int(text) : parse_count(text);
      good = value.has_value();
      size = static_cast<double>(value.value_or(0));
      break;
    }
    case FlagType::kNumber: {
      if (is_word(flag, text)) return;
      const auto value = parse_number(text);
      good = value.has_value();
      size = value.value_or(0);
      break;
    }
    case FlagType::kText: good = flag.choices.empty() || is_word(flag, text); break;
    case FlagType::kTexts:
    case FlagType::kJson: break;
  }
  if (!good || (flag.min && size < *flag.min) || (flag.max && size > *flag.max))
    usage(spelled, " must be ", allowed_text(flag), ", got \"", text, "\"");
}

// Where a spelling leads: a flag, perhaps negated.
struct Target {
  const FlagSpec* flag;
  bool negated;
  bool operator==(const Target&) const = default;
};

std::map<std::string, Target> spellings(const CommandSpec& command) {
  std::map<std::string, Target> out;
  for (const FlagSpec& flag : command.flags) {
    std::vector<std::string> names = flag.aliases;
    names.push_back(flag.name);
    for (const std::string& name : names) {
      if (name.starts_with('-')) {
        out.emplace(name, Target{&flag, false});
        continue;
      }
      out.emplace("--" + name, Target{&flag, false});
      if (flag.type == FlagType::kBool) out.emplace("--no-" + name, Target{&flag, true});
    }
  }
  return out;
}

// The flag that `word` spells exactly, or is an unambiguous beginning of.
Target resolve(const std::map<std::string, Target>& known, const std::string& word, const CommandSpec& command) {
  if (const auto exact = known.find(word); exact != known.end()) return exact->second;
  std::vector<std::string> candidates;
  std::vector<Target> targets;
  if (word.starts_with("--"))
    for (auto it = known.lower_bound(word); it != known.end() && it->first.starts_with(word); ++it) {
      candidates.push_back(it->first);
      if (std::find(targets.begin(), targets.end(), it->second) == targets.end()) targets.push_back(it->second);
    }
  if (targets.size() == 1) return targets[0];
  if (!targets.empty()) {
    const size_t more = candidates.size() > 8 ? candidates.size() - 8 : 0;
    candidates.resize(candidates.size() - more);
    usage("ambiguous flag ", word, ": it could be ", join(candidates, ", "), more > 0 ? concat(" or ", more, " more") : "");
  }
  std::vector<std::string> names;
  for (const auto& [name, target] : known) names.push_back(name);
  const auto near = nearest_names(word, names);
  usage("unknown flag ", word, near.empty() ? "" : "; did you mean " + join(near, ", ") + "?", " (`weir ", command.name,
        " --help` lists all)");
}

}  // namespace

Flags Flags::parse(const CommandSpec& command, std::span<const std::string> args) {
  Flags flags(command);
  const auto known = spellings(command);
  const auto is_flag = [](const std::string& arg) { return arg.size() >= 2 && arg[0] == '-' && !looks_like_number(arg); };

  bool only_positionals = false;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (only_positionals || !is_flag(arg)) {
      if (flags.positionals_.size() >= command.positionals.size())
        usage("unexpected argument \"", arg, "\"; `weir ", command.name, "` takes ",
              command.positionals.empty() ? "only flags" : join(command.positionals, " ") + " and flags");
      flags.positionals_.push_back(arg);
      continue;
    }
    if (arg == "--") {
      only_positionals = true;
      continue;
    }
    const size_t equals = arg.find('=');
    std::string word = canonical(std::string_view(arg).substr(0, equals));
    std::optional<std::string> inline_value;
    if (equals != std::string::npos) inline_value = arg.substr(equals + 1);
    if (word == "--help" || word == "-h") {
      flags.help_topic_ = inline_value.value_or("");
      continue;
    }
    std::string path;
    if (const size_t dot = word.find('.'); dot != std::string::npos) {
      path = word.substr(dot + 1);
      word.resize(dot);
    }
    const auto [flag, negated] = resolve(known, word, command);
    const std::string spelled = flag->name.starts_with('-') ? flag->name : "--" + flag->name;
    if (!path.empty() && flag->type != FlagType::kJson) usage(spelled, " has no parts, got ", arg);

    if (flag->type == FlagType::kBool) {
      if (negated && inline_value) usage("--no-", flag->name, " takes no value, got \"", *inline_value, "\"");
      flags.store(*flag, "", negated ? "false" : inline_value.value_or("true"), spelled);
      continue;
    }
    if (inline_value) {
      flags.store(*flag, path, *inline_value, spelled);
      continue;
    }
    const auto next_is_value = [&] { return i + 1 < args.size() && !is_flag(args[i + 1]); };
    if (!next_is_value())
      usage(spelled, " needs a value: ", allowed_text(*flag),
            i + 1 < args.size() ? concat("; write ", spelled, "=", args[i + 1], " if that is it") : "");
    do flags.store(*flag, path, args[++i], spelled);
    while (flag->type == FlagType::kTexts && next_is_value());
  }
  return flags;
}

void Flags::store(const FlagSpec& flag, std::string_view path, const std::string& text, const std::string& spelled) {
  Value& value = values_[flag.name];
  if (flag.type == FlagType::kJson) {
    if (!value.json.is_object()) value.json = Json::object();
    if (path.empty()) {
      Json parsed;
      try {
        parsed = parse_json(text, spelled);
      } catch (const Error& error) {
        usage(error.what(), ", got ", text);
      }
      if (!parsed.is_object()) usage(spelled, " must be ", allowed_text(flag), ", got ", text);
      value.json.update(parsed);
    } else {
      Json* place = &value.json;
      for (size_t dot = path.find('.'); dot != std::string_view::npos; dot = path.find('.')) {
        place = &(*place)[std::string(path.substr(0, dot))];
        if (!place->is_object()) *place = Json::object();
        path.remove_prefix(dot + 1);
      }
      // A value that is no JSON is taken as text, so that `--compilation-config.cudagraph_mode NONE` needs no quotes inside quotes.
      try {
        (*place)[std::string(path)] = parse_json(text, spelled);
      } catch (const Error&) {
        (*place)[std::string(path)] = text;
      }
    }
    return;
  }
  check_value(flag, text, spelled);
  if (flag.type != FlagType::kTexts) value.texts.clear();
  value.texts.push_back(text);
}

const FlagSpec& Flags::spec(std::string_view name) const {
  for (const FlagSpec& flag : command_->flags)
    if (flag.name == name) return flag;
  check_failed(__FILE__, __LINE__, "flag is in the table", concat("`weir ", command_->name, "` has no flag ", name));
}

bool Flags::given(std::string_view name) const {
  spec(name);
  return values_.find(name) != values_.end();
}

const std::string* Flags::raw(std::string_view name, FlagType type) const {
  const FlagSpec& flag = spec(name);
  WEIR_CHECK(flag.type == type, "flag ", name, " has another type");
  if (const auto it = values_.find(name); it != values_.end()) return &it->second.texts.back();
  return flag.fallback.empty() ? nullptr : &flag.fallback;
}

std::optional<bool> Flags::find_boolean(std::string_view name) const {
  const std::string* text = raw(name, FlagType::kBool);
  return text == nullptr ? std::nullopt : parse_bool(*text);
}

std::optional<int64_t> Flags::find_integer(std::string_view name) const {
  const FlagType type = spec(name).type == FlagType::kCount ? FlagType::kCount : FlagType::kInt;
  const std::string* text = raw(name, type);
  if (text == nullptr) return std::nullopt;
  return type == FlagType::kCount ? parse_count(*text) : parse_int(*text);
}

std::optional<double> Flags::find_number(std::string_view name) const {
  const std::string* text = raw(name, FlagType::kNumber);
  return text == nullptr ? std::nullopt : parse_number(*text);
}

std::optional<std::string> Flags::find_text(std::string_view name) const {
  const FlagSpec& flag = spec(name);
  const std::string* text = raw(name, flag.type);
  if (text == nullptr || (flag.type != FlagType::kText && !is_word(flag, *text))) return std::nullopt;
  return *text;
}

std::optional<Json> Flags::find_json(std::string_view name) const {
  const FlagSpec& flag = spec(name);
  WEIR_CHECK(flag.type == FlagType::kJson, "flag ", name, " is no JSON");
  const auto it = values_.find(name);
  return it == values_.end() ? std::nullopt : std::optional(it->second.json);
}

std::vector<std::string> Flags::texts(std::string_view name) const {
  WEIR_CHECK(spec(name).type == FlagType::kTexts, "flag ", name, " has one value");
  const auto it = values_.find(name);
  return it == values_.end() ? std::vector<std::string>{} : it->second.texts;
}

namespace {
template <class T>
T need(std::optional<T> value, std::string_view name) {
  WEIR_CHECK(value.has_value(), "flag ", name, " has no fallback");
  return std::move(*value);
}
}  // namespace

bool Flags::boolean(std::string_view name) const { return need(find_boolean(name), name); }
int64_t Flags::integer(std::string_view name) const { return need(find_integer(name), name); }
double Flags::number(std::string_view name) const { return need(find_number(name), name); }
std::string Flags::text(std::string_view name) const { return need(find_text(name), name); }

std::optional<std::string> Flags::positional(size_t index) const {
  return index < positionals_.size() ? std::optional(positionals_[index]) : std::nullopt;
}

std::string Flags::given_text() const {
  std::string out;
  for (const FlagSpec& flag : command_->flags) {
    const auto it = values_.find(flag.name);
    if (it == values_.end()) continue;
    out += out.empty() ? "" : " ";
    if (flag.type == FlagType::kBool) {
      out += (*parse_bool(it->second.texts[0]) ? "--" : "--no-") + flag.name;
    } else if (flag.type == FlagType::kJson) {
      out += "--" + flag.name + " '" + dump_json(it->second.json) + "'";
    } else {
      out += "--" + flag.name;
      for (const std::string& text : it->second.texts) out += " " + (flag.name.find("key") != std::string::npos ? "***" : text);
    }
  }
  return out;
}

std::optional<int64_t> parse_count(std::string_view text) {
  size_t digits = text.size();
  while (digits > 0 && std::isalpha(static_cast<unsigned char>(text[digits - 1]))) --digits;
  std::string_view suffix = text.substr(digits);
  text = text.substr(0, digits);
  if (suffix.empty()) return parse_int(text);

  static constexpr std::string_view kUnits = "kmgt";
  const bool binary = suffix[0] >= 'A' && suffix[0] <= 'Z';
  if (suffix.size() == 2 && suffix[1] == 'i' && binary) suffix.remove_suffix(1);
  const size_t power = kUnits.find(static_cast<char>(std::tolower(static_cast<unsigned char>(suffix[0]))));
  if (suffix.size() != 1 || power == std::string_view::npos) return std::nullopt;
  const auto value = parse_number(text);
  if (!value) return std::nullopt;
  const double scaled = *value * std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(power + 1));
  // 2^53: beyond it a double would round silently.
  const double whole = std::round(scaled);
  if (std::abs(scaled - whole) > 1e-6 || std::abs(whole) > 9007199254740992.0) return std::nullopt;
  return static_cast<int64_t>(whole);
}

namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t substituted = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({row[j] + 1, diagonal + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

std::vector<std::string> nearest_names(std::string_view wanted, std::span<const std::string> names, size_t limit) {
  // Every argument is user input; a megabyte of it must not cost a megabyte squared.
  if (wanted.size() > 256) return {};
  const std::string_view core = wanted.substr(std::min(wanted.find_first_not_of('-'), wanted.size()));
  std::vector<std::pair<size_t, const std::string*>> scored;
  for (const std::string& name : names) {
    size_t distance = edit_distance(wanted, name);
    // A longer name that holds the whole word is near although many letters differ: --batched-tokens.
    if (core.size() >= 4 && name.find(core) != std::string::npos) distance = std::min<size_t>(distance, 2);
    if (distance <= std::max<size_t>(2, wanted.size() / 3)) scored.emplace_back(distance, &name);
  }
  std::stable_sort(scored.begin(), scored.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<std::string> out;
  for (size_t i = 0; i < std::min(limit, scored.size()); ++i) out.push_back(*scored[i].second);
  return out;
}

}  // namespace weir
