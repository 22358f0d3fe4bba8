"""Pure foundations: errors, ports, documents, rules, progress. Nothing here touches the world."""
