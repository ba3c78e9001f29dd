# `users` of a service that has a user and a group of its own, for files that it shares.
name: {
  users.${name} = {
    isSystemUser = true;
    group = name;
    description = name;
  };
  groups.${name} = { };
}
