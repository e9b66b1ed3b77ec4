#include <algorithm>

#include "weir/apps/flags.h"

namespace weir {
namespace {

constexpr size_t kHelpColumn = 34;

std::string value_text(const FlagSpec& flag) {
  if (!flag.value_name.empty()) return " " + flag.value_name;
  switch (flag.type) {
    case FlagType::kBool: return "";
    case FlagType::kInt:
    case FlagType::kCount: return " N";
    case FlagType::kNumber: return " X";
    case FlagType::kJson: return " JSON";
    case FlagType::kTexts: return " TEXT ...";
    case FlagType::kText: break;
  }
  if (flag.choices.empty()) return " TEXT";
  std::string out;
  for (const std::string& choice : flag.choices) out += (out.empty() ? " {" : ",") + choice;
  return out + "}";
}

std::string spelled(const std::string& name) { return name.starts_with('-') ? name : "--" + name; }

// Words of `text` from column kHelpColumn on, wrapped before `columns`.
void append_wrapped(std::string& out, size_t column, const std::string& text, size_t columns) {
  if (column + 2 > kHelpColumn) {
    out += '\n';
    column = 0;
  }
  out.append(kHelpColumn - column, ' ');
  column = kHelpColumn;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    if (column > kHelpColumn && column + 1 + (end - begin) > columns) {
      out += '\n';
      out.append(kHelpColumn, ' ');
      column = kHelpColumn;
    } else if (column > kHelpColumn) {
      out += ' ';
      ++column;
    }
    out.append(text, begin, end - begin);
    column += end - begin;
    begin = end + 1;
  }
  out += '\n';
}

void append_flag(std::string& out, const FlagSpec& flag, size_t columns) {
  std::string head = "  " + std::string(flag.type == FlagType::kBool ? "--[no-]" : "--") + flag.name;
  for (const std::string& alias : flag.aliases) head += ", " + spelled(alias);
  head += value_text(flag);
  out += head;
  std::string text = flag.help;
  if (!flag.fallback.empty() && flag.type != FlagType::kBool) text += " (default " + flag.fallback + ")";
  append_wrapped(out, head.size(), text, columns);
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c == '_' ? '-' : static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  return out;
}

}  // namespace

std::string help_text(const CommandSpec& command, std::string_view topic, int columns) {
  const size_t width = static_cast<size_t>(std::clamp(columns, 60, 120));
  const std::string wanted = lower(topic.substr(std::min(topic.find_first_not_of('-'), topic.size())));
  const bool everything = wanted.empty() || wanted == "all";

  std::vector<std::string> groups;  // in order of first appearance
  for (const FlagSpec& flag : command.flags)
    if (std::find(groups.begin(), groups.end(), flag.group) == groups.end()) groups.push_back(flag.group);

  std::string out;
  if (everything) {
    out = "usage: weir " + command.name;
    for (const std::string& positional : command.positionals) out += " " + positional;
    out += " [flags]\n\n" + command.summary + "\n";
  }
  const bool is_group = std::any_of(groups.begin(), groups.end(), [&](const std::string& group) { return lower(group) == wanted; });
  bool found = everything;
  for (const std::string& group : groups) {
    std::string body;
    for (const FlagSpec& flag : command.flags) {
      if (flag.group != group) continue;
      bool matches = everything || (is_group && lower(group) == wanted);
      if (!everything && !is_group) {
        matches = lower(flag.name).find(wanted) != std::string::npos;
        for (const std::string& alias : flag.aliases) matches |= lower(alias).find(wanted) != std::string::npos;
      }
      if (matches) append_flag(body, flag, width);
    }
    if (body.empty()) continue;
    found = true;
    out += "\n" + group + "\n" + body;
  }
  if (!found) {
    std::vector<std::string> names = groups;
    for (const FlagSpec& flag : command.flags) names.push_back("--" + flag.name);
    const auto near = nearest_names(topic, names);
    std::string hint;
    for (const std::string& name : near) hint += (hint.empty() ? "; did you mean " : ", ") + name;
    throw UsageError(
        concat("--help=", topic, ": `weir ", command.name, "` has no group or flag of that name", hint, hint.empty() ? "" : "?"));
  }
  if (everything) {
    out += "\nFlags may be shortened while they stay unambiguous; `_` and `-` are the same; --help=GROUP and --help=FLAG show a part.\n";
    out += command.epilogue;
  }
  return out;
}

}  // namespace weir
