CREATE DATABASE webapp CHARACTER SET utf8mb4;
FLUSH PRIVILEGES;
CREATE USER webapp@localhost IDENTIFIED VIA unix_socket;
GRANT SELECT, INSERT, UPDATE, DELETE ON webapp.* TO webapp@localhost;
USE webapp;
CREATE TABLE customers (id INT PRIMARY KEY, name VARCHAR(60) NOT NULL) ENGINE=InnoDB;
CREATE TABLE orders (
  seq BIGINT PRIMARY KEY,
  customer INT NOT NULL,
  note CHAR(64) NOT NULL,
  taken TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
) ENGINE=InnoDB;
INSERT INTO customers VALUES
 (1,'Anker & Sons'),(2,'Blue Harbour'),(3,'Cedar Works'),(4,'Dovetail'),(5,'Elm Street Press'),
 (6,'Ferryman'),(7,'Granite Hill'),(8,'Hazel Foods'),(9,'Ivory Gate'),(10,'Juniper Lane'),
 (11,'Kestrel'),(12,'Lantern Hall'),(13,'Millbrook'),(14,'Northgate'),(15,'Oak & Iron'),
 (16,'Pinewood'),(17,'Quarry Bank'),(18,'Redfern'),(19,'Saltmarsh'),(20,'Tideway');
