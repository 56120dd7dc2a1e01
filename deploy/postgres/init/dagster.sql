-- Dagster's own history, beside the pools' database (which POSTGRES_DB makes).
CREATE DATABASE dagster;
